package stack

import (
	"io"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/ip"
)

// leadingOn is a network whose rules lead packets to its own addresses on while set.
type leadingOn struct {
	control.Network
	set atomic.Bool
}

func (n *leadingOn) Accepts(link int, f control.Flow) control.Verdict {
	if n.set.Load() {
		return control.Elsewhere
	}
	return n.Network.Accepts(link, f)
}

// TestElsewhere: packets that the kernel leads on go back to it, also those of our
// connections, and with whole checksums although the sender left them to a NIC.
func TestElsewhere(t *testing.T) {
	var net *leadingOn
	var dev *takingBack
	a, b := newPair(t, pairOptions{nic: sim.Config{Virtual: true, TxCsum: true}, config: func(c *Config) {
		net = &leadingOn{Network: c.Net} // the last one is b's
		dev = &takingBack{Steering: c.Links[0].Steering, ports: map[uint16]int{}}
		c.Net, c.Links[0].Steering = net, dev
	}})
	cli, srv := connect(t, a, b, addrB)
	bound, err := b.OpenUDP(netip.AddrPortFrom(addrB, 0), netip.AddrPort{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer bound.Close()
	stranger, err := a.OpenUDP(netip.AddrPort{}, bound.LocalAddr(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()

	net.set.Store(true)
	locked(b, b.locals.changed)
	if _, err := stranger.WriteTo([]byte("datagram"), netip.AddrPort{}); err != nil {
		t.Fatal(err)
	}
	goesBack := func(port uint16) {
		t.Helper()
		soon(t, "the packet goes back", func() bool { return dev.took(port) > 0 })
		var p ip.Packet
		frame := dev.last()
		if err := ip.Parse(frame, len(frame), &p); err != nil {
			t.Fatal(err)
		}
		if sum := ip.Add(ip.PseudoSum(p.Src, p.Dst, p.Proto, p.L4Len), ip.Sum(frame[p.L4Off:][:p.L4Len])); sum != 0xffff {
			t.Errorf("the checksum of protocol %d is wrong by %#x", p.Proto, sum)
		}
	}
	goesBack(bound.LocalAddr().Port())
	if _, err := cli.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	goesBack(srv.LocalAddr().Port())

	net.set.Store(false) // the segment is sent again
	locked(b, b.locals.changed)
	buf := make([]byte, 1)
	if _, err := io.ReadFull(srv, buf); err != nil || buf[0] != 'x' {
		t.Errorf("%q, %v", buf, err)
	}
}
