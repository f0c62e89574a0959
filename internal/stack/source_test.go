package stack

import (
	"bytes"
	"context"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/ip"
)

// undecided is a network that gives no verdict on sources while silent is set.
type undecided struct {
	control.Network
	silent atomic.Bool
}

func (n *undecided) Accepts(link int, f control.Flow) control.Verdict {
	if n.silent.Load() {
		return control.Unasked
	}
	return n.Network.Accepts(link, f)
}

// takingBack is a device whose kernel takes frames back.
type takingBack struct {
	driver.Steering

	mu    sync.Mutex
	ports map[uint16]int // frames by the port that they were for
	frame []byte         // the last one
}

func (d *takingBack) last() []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.frame
}

func (d *takingBack) ReturnErrors() uint64 { return 0 }

func (d *takingBack) Return(frame []byte) {
	var p ip.Packet
	if ip.Parse(frame, len(frame), &p) != nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.frame = bytes.Clone(frame)
	d.ports[uint16(frame[p.L4Off+2])<<8|uint16(frame[p.L4Off+3])]++
}

func (d *takingBack) took(port uint16) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ports[port]
}

// TestSourcesUndecided: where nobody says whether a source may send, its packets go
// back to the kernel, but for those of connections and connected sockets, which go
// on.
func TestSourcesUndecided(t *testing.T) {
	var net *undecided
	var dev *takingBack
	a, b := newPair(t, pairOptions{config: func(c *Config) {
		net = &undecided{Network: c.Net} // the last one is b's
		dev = &takingBack{Steering: c.Links[0].Steering, ports: map[uint16]int{}}
		c.Net, c.Links[0].Steering = net, dev
	}})
	cli, srv := connect(t, a, b, addrB)
	asker := udpPair(t, b, a, addrA, nil) // b's end is connected
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
	l, err := b.ListenTCP(netip.AddrPortFrom(addrB, 0), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()

	net.silent.Store(true)
	locked(b, b.locals.changed)
	buf := make([]byte, 100)
	for range 3 { // others' packets come between, so that headers do not repeat
		if _, err := cli.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(srv, buf[:1]); err != nil {
			t.Fatal(err)
		}
		if _, err := asker.WriteTo([]byte("y"), netip.AddrPort{}); err != nil {
			t.Fatal(err)
		}
		if n, _, _, _, err := asker.ReadFrom(buf); err != nil || string(buf[:n]) != "y" {
			t.Fatalf("%q, %v", buf[:n], err)
		}
		was := dev.took(bound.LocalAddr().Port())
		if _, err := stranger.WriteTo([]byte("z"), netip.AddrPort{}); err != nil {
			t.Fatal(err)
		}
		soon(t, "the datagram goes back", func() bool { return dev.took(bound.LocalAddr().Port()) > was })
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := a.DialTCP(ctx, netip.AddrPort{}, l.Addr(), nil)
		done <- err
	}()
	soon(t, "the SYN goes back", func() bool { return dev.took(l.Addr().Port()) > 0 })
	cancel()
	if err := <-done; err == nil {
		t.Error("the stack accepted a connection from a source that nobody had judged")
	}
}

// onePort is a network that accepts the packets from one port only.
type onePort struct {
	control.Network
	port atomic.Uint32
}

func (n *onePort) Accepts(_ int, f control.Flow) control.Verdict {
	if uint32(f.SrcPort) == n.port.Load() {
		return control.AcceptedFlow
	}
	return control.Refused
}

// TestSourcesByFlow: a verdict on one flow is none on another between the same
// addresses, also if its headers repeat.
func TestSourcesByFlow(t *testing.T) {
	var net *onePort
	a, b := newPair(t, pairOptions{config: func(c *Config) {
		net = &onePort{Network: c.Net} // the last one is b's
		c.Net = net
	}})
	open := func(s *Stack, local, remote netip.AddrPort) *UDPConn {
		c, err := s.OpenUDP(local, remote, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	bound := open(b, netip.AddrPortFrom(addrB, 0), netip.AddrPort{})
	good := open(a, netip.AddrPort{}, bound.LocalAddr())
	bad := open(a, netip.AddrPort{}, bound.LocalAddr())
	net.port.Store(uint32(good.LocalAddr().Port()))
	buf := make([]byte, 100)
	for i := range 3 {
		for _, c := range []*UDPConn{good, bad, good} {
			if _, err := c.WriteTo([]byte{byte(i)}, netip.AddrPort{}); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 { // a datagram in between would come first
			_, _, from, _, err := bound.ReadFrom(buf)
			if err != nil || from != good.LocalAddr() {
				t.Fatalf("a datagram from %v, %v; want %v", from, err, good.LocalAddr())
			}
		}
	}
}

// soon waits until ok holds.
func soon(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what + ": never")
		}
	}
}
