package stack

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/tcp"
)

// TestSourcesTwinServes: a client whose SYN went back, because nobody had judged its
// source, is the twin's for good: what it sends once the source is judged goes back too.
func TestSourcesTwinServes(t *testing.T) {
	var net *undecided
	var dev *takingBack
	a, b := newPair(t, pairOptions{config: func(c *Config) {
		net = &undecided{Network: c.Net} // the last one is b's
		dev = &takingBack{Steering: c.Links[0].Steering, ports: map[uint16]int{}}
		c.Net, c.Links[0].Steering = net, dev
	}})
	l, err := b.ListenTCP(netip.AddrPortFrom(addrB, 0), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().Port()
	net.silent.Store(true)
	type dialled struct {
		c   *TCPConn
		err error
	}
	done := make(chan dialled, 1)
	go func() {
		c, err := a.DialTCP(t.Context(), netip.AddrPort{}, l.Addr(), nil)
		done <- dialled{c, err}
	}()
	soon(t, "the SYN goes back", func() bool { return dev.took(port) > 0 })
	net.silent.Store(false)
	var p ip.Packet
	syn := dev.last()
	if err := ip.Parse(syn, len(syn), &p); err != nil {
		t.Fatal(err)
	}
	// The twin's SYN-ACK comes to the client by another way.
	answer := make([]byte, 20)
	copy(answer[0:], syn[p.L4Off+2:][:2])
	copy(answer[2:], syn[p.L4Off:][:2])
	binary.BigEndian.PutUint32(answer[4:], 1000)
	binary.BigEndian.PutUint32(answer[8:], binary.BigEndian.Uint32(syn[p.L4Off+4:])+1)
	answer[12], answer[13] = 5<<4, byte(tcp.FlagSYN|tcp.FlagACK)
	binary.BigEndian.PutUint16(answer[14:], 60000)
	was := dev.took(port)
	local := netip.AddrPortFrom(addrA, binary.BigEndian.Uint16(syn[p.L4Off:]))
	a.Inject([]Injected{{Link: 7, Local: local, Remote: l.Addr(), TTL: 64, Data: answer, Summed: true}})
	d := <-done
	if d.err != nil {
		t.Fatal(d.err)
	}
	defer d.c.Close()
	soon(t, "the ACK goes back", func() bool { return dev.took(port) > was })
	if _, err := d.c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	soon(t, "data go back", func() bool { return len(dev.last()) > p.L4Off+20 && dev.last()[len(dev.last())-1] == 'x' })
	if n := b.Stats().TxResets; n != 0 {
		t.Errorf("%d resets", n)
	}
}

// onceAccepted is a network that accepts the first packet to a port, and gives no verdict
// after that.
type onceAccepted struct {
	control.Network
	port, asked atomic.Uint32
}

func (n *onceAccepted) Accepts(link int, f control.Flow) control.Verdict {
	switch {
	case uint32(f.DstPort) != n.port.Load():
		return n.Network.Accepts(link, f)
	case n.asked.Add(1) == 1:
		return control.AcceptedFlow
	}
	return control.Unasked
}

// TestSourcesHandshake: whoever answers our SYN-ACK was judged when the SYN came, also
// if there is no verdict any more.
func TestSourcesHandshake(t *testing.T) {
	var net *onceAccepted
	a, b := newPair(t, pairOptions{config: func(c *Config) {
		net = &onceAccepted{Network: c.Net} // the last one is b's
		c.Net, c.Links[0].Steering = net, &takingBack{Steering: c.Links[0].Steering, ports: map[uint16]int{}}
	}})
	l, err := b.ListenTCP(netip.AddrPortFrom(addrB, 0), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	net.port.Store(uint32(l.Addr().Port()))
	c, err := a.DialTCP(t.Context(), netip.AddrPort{}, l.Addr(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	soon(t, "the handshake ends", func() bool { return b.Stats().TCPAccepts > 0 || b.Stats().Conns > 0 })
	if net.asked.Load() < 2 {
		t.Error("the ACK was not asked about")
	}
}
