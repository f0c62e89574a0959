package engine_test

import (
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// TestShaper: a shaper that is added while a connection transfers is obeyed. The
// time that it asks for is the least that the transfer takes, however slow the
// machine is.
func TestShaper(t *testing.T) {
	const (
		bytes = 3 << 20
		rate  = 50e6 / 8 // bytes/s
		burst = 32 << 10
	)
	p := lab.NewPair(t, lab.Options{})
	e, err := onload.New(onload.Config{NetNS: p.A.Path, Interfaces: []string{p.A.If}, Frames: 4096, RingSize: 1024, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	l, err := p.B.Listen("tcp4", netip.AddrPortFrom(p.B.Addr4, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b := make([]byte, bytes)
		for {
			if _, err := io.ReadFull(c, b); err != nil {
				return
			}
			if _, err := c.Write(b[:1]); err != nil {
				return
			}
		}
	}()
	c, err := e.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := make([]byte, bytes)
	transfer := func() time.Duration {
		t.Helper()
		start := time.Now()
		if err := c.SetDeadline(start.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, b[:1]); err != nil {
			t.Fatal(err)
		}
		return time.Since(start)
	}
	free := transfer()
	tbf := &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: p.A.Index, Parent: netlink.HANDLE_ROOT},
		Rate:       rate, Limit: rate/10 + burst, Buffer: netlink.Xmittime(rate, burst),
	}
	if err := p.A.Netlink().QdiscReplace(tbf); err != nil {
		t.Fatal(err)
	}
	least := time.Duration((bytes - burst) * int64(time.Second) / (50e6 / 8))
	for start := time.Now(); transfer() < least; { // until the engine has heard of it
		if time.Since(start) > time.Minute {
			t.Fatal("the shaper is not obeyed")
		}
	}
	shaped := transfer()
	if shaped < least {
		t.Errorf("%d bytes took %v, by the shaper they take %v", bytes, shaped, least)
	}
	if err := p.A.Netlink().QdiscDel(tbf); err != nil {
		t.Fatal(err)
	}
	after := transfer()
	t.Logf("without %v, shaped %v of at least %v, after %v", free, shaped, least, after)
	if p := onload.PathOf(c); !p.Accelerated || p.TSO == 0 {
		t.Errorf("path %v", p)
	}
}
