package onload_test

import (
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// An interface without a link-local address (addr_gen_mode 1) reaches its IPv6
// neighbours.
func TestDialWithoutLinkLocal(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	if err := p.A.DelAddr(netip.PrefixFrom(p.A.LinkLocal, 64)); err != nil {
		t.Fatal(err)
	}
	e := vethEngine(t, p.A, onload.Config{})
	ln, err := p.B.Listen("tcp", net.JoinHostPort(p.B.Addr6.String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		if c, err := ln.Accept(); err == nil {
			_, _ = io.Copy(c, c) // until the client closes
			c.Close()
		}
	}()
	c, err := e.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if !onload.PathOf(c).Accelerated {
		t.Errorf("path %v", onload.PathOf(c))
	}
	var b [4]byte
	if _, err := c.Write([]byte("ping")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, b[:]); err != nil || string(b[:]) != "ping" {
		t.Errorf("%q, %v", b, err)
	}
}
