package onload

import (
	"io"
	"net"
	"testing"

	"go.uber.org/zap"
)

// TestCarrierChanges: a connection goes on over another carrier while it is in use:
// here from a stack's to the kernel's.
func TestCarrierChanges(t *testing.T) {
	c := MemoryConfig{Config: Config{Logger: zap.NewNop()}}
	a, b, err := NewMemoryPair(c, c)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	defer b.Close()
	ours, err := b.Listen("tcp", "10.0.0.2:80")
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	theirs, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	for _, ln := range []net.Listener{ours, theirs} {
		go func() {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, ln.Addr().String())
			c.Close()
		}()
	}
	first, err := a.DialTCP("tcp", nil, &TCPAddr{IP: IPv4(10, 0, 0, 2), Port: 80})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	k, err := net.Dial("tcp", theirs.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	second := kernelTCPConn(k.(*net.TCPConn), "tcp", "it changed hands")

	var conn net.Conn = first
	if got, err := io.ReadAll(conn); err != nil || string(got) != ours.Addr().String() {
		t.Errorf("%q, %v", got, err)
	}
	old := first.carrier.Swap(second.carrier.Load())
	defer (*old).Close()
	if got, err := io.ReadAll(conn); err != nil || string(got) != theirs.Addr().String() {
		t.Errorf("%q, %v", got, err)
	}
	if p := PathOf(conn); p.Accelerated || p.Reason != "it changed hands" {
		t.Errorf("%v", p)
	}
}
