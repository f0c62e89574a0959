package engine

import (
	"net/netip"
	"strings"
	"testing"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/ip"
)

// A route for which the host has no address, as when the only one is being
// tried (RFC 4862 section 5.4), is the kernel's to answer. The next dial, with
// an address, is ours.
func TestNoAddress(t *testing.T) {
	p := lab.NewPair(t, lab.Options{NoAddr: true})
	dst := netip.MustParseAddr("fd99::2")
	l, err := p.A.Netlink().LinkByIndex(p.A.Index)
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := p.A.Netlink().AddrList(l, unix.AF_INET6)
	if err != nil {
		t.Fatal(err)
	}
	for i := range addrs {
		if err := p.A.Netlink().AddrDel(l, &addrs[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.A.AddRoute(netip.MustParsePrefix("fd99::/64"), netip.Addr{}); err != nil {
		t.Fatal(err)
	}
	e, err := New(Config{Interfaces: []string{p.A.If}, NetNS: p.A.Path, Frames: 1024, RingSize: 256, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	remote := netip.AddrPortFrom(dst, 80)
	w, err := e.Way(IPv6, Traffic{Proto: ip.ProtoTCP}, netip.AddrPort{}, remote)
	if err != nil || w.Stack != nil || !w.Kernel || !strings.Contains(w.Why, "no address") {
		t.Errorf("%+v, %v", w, err)
	}
	changed := make(chan struct{}, 1)
	defer e.net.Subscribe(func(control.Change) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})()
	if err := p.A.AddAddr(netip.MustParsePrefix("fd99::1/64")); err != nil {
		t.Fatal(err)
	}
	for w.Stack == nil {
		<-changed
		if w, err = e.Way(IPv6, Traffic{Proto: ip.ProtoTCP}, netip.AddrPort{}, remote); err != nil {
			t.Fatal(err)
		}
	}
}
