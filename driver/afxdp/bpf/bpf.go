// Package bpf holds the XDP program of driver/afxdp, compiled: users need no clang.
// `go generate` rebuilds it; a test fails if that was forgotten.
package bpf

// ClangMajor is the major version of the clang that built the committed
// objects.
const ClangMajor = "14"

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go@v0.22.0 -target bpfel,bpfeb Steer steer.c -- -O2 -g -Wall -Werror -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu
