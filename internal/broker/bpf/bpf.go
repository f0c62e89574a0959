// Package bpf holds the programs of the links of internal/broker/nicshare, compiled:
// users need no clang. `go generate` rebuilds them; a test fails if that was forgotten.
// The steering program of the interface is that of driver/afxdp/bpf.
package bpf

// ClangMajor is the major version of the clang that built the committed
// objects.
const ClangMajor = "14"

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go@v0.22.0 -target bpfel,bpfeb Filter filter.c -- -O2 -g -Wall -Werror -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu
