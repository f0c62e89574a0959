package stack

import (
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/udp"
)

// TestUDPUnread: sockets that nobody reads do not take the memory that others
// need, however many they are.
func TestUDPUnread(t *testing.T) {
	a, b := newPair(t, pairOptions{nic: sim.Config{Frames: 8192, TxRing: 256, RxRing: 256}})
	c := udpPair(t, a, b, addrB, nil)
	buf := make([]byte, 1400)
	for range 100 {
		u, err := b.OpenUDP(netip.AddrPortFrom(addrB, 0), netip.AddrPort{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		for range 300 { // more than a buffer holds
			if _, err := c.WriteTo(buf, u.LocalAddr()); err != nil {
				t.Fatal(err)
			}
			b.pollOnce()
		}
	}
	// Every drop has its reason.
	if st := b.Stats(); st.UDPRcvbufErrors == 0 || st.UDPMemErrors == 0 || st.UDPErrors != st.UDPRcvbufErrors+st.UDPMemErrors {
		t.Errorf("%d dropped, %d for full buffers, %d for want of memory", st.UDPErrors, st.UDPRcvbufErrors, st.UDPMemErrors)
	}
	// Below Reserve a socket still gets minUDPBuf: three of these datagrams,
	// so that 100 sockets may take 300 frames of it.
	if free := b.Stats().FreeFrames; free < b.host.Reserve-300-100 {
		t.Fatalf("%d frames are free, with a reserve of %d", free, b.host.Reserve)
	}
	for end := time.Now().Add(patience); ; {
		if _, err := c.WriteTo(buf, netip.AddrPort{}); err != nil {
			t.Fatal(err)
		}
		// Behind so many datagrams one may be lost, for want of room in a ring.
		c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if _, _, _, _, err := c.ReadFrom(buf); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatal("a socket that is read:", err)
		}
	}
	x, y := connect(t, a, b, addrB)
	x.SetDeadline(time.Now().Add(patience))
	y.SetDeadline(time.Now().Add(patience))
	for range 3 {
		if _, err := x.Write(buf); err != nil {
			t.Fatal(err)
		}
		if _, err := y.Read(buf); err != nil {
			t.Fatal("a connection:", err)
		}
	}
}

// TestUDPUnresolved: datagrams to hosts that do not answer ARP hold little
// memory while the kernel asks.
func TestUDPUnresolved(t *testing.T) {
	a, b := newPair(t, pairOptions{nic: sim.Config{Frames: 2048, TxRing: 256, RxRing: 256}})
	c := udpPair(t, a, b, addrB, nil)
	u, err := a.OpenUDP(netip.AddrPortFrom(addrA, 0), netip.AddrPort{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	buf := make([]byte, 60000)
	for host := range 20 {
		to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(100 + host)}), 9)
		for range 20 {
			if _, err := u.WriteTo(buf, to); err != nil {
				t.Fatal(host, err)
			}
		}
	}
	if free := a.Stats().FreeFrames; free < a.arena.Frames()/4 {
		t.Errorf("%d of %d frames free", free, a.arena.Frames())
	}
	c.SetDeadline(time.Now().Add(patience))
	if _, err := c.WriteTo(buf, netip.AddrPort{}); err != nil {
		t.Fatal(err)
	}
	if n, _, _, _, err := c.ReadFrom(buf); n != len(buf) || err != nil {
		t.Fatal(n, err)
	}
}

// TestUDPPathMTU: where a router says that a datagram is too large for the
// path, the next is cut to fit (RFC 1191, RFC 8201), for a while.
func TestUDPPathMTU(t *testing.T) {
	for _, to := range []netip.Addr{addrB, six[addrB]} {
		const path = 1300
		narrow := sim.Faults{MTU: path}
		a, b := newPair(t, pairOptions{nic: sim.Config{TakeAll: true}, link: sim.LinkConfig{AtoB: narrow}})
		c := udpPair(t, a, b, to, nil)
		buf := make([]byte, 4000)
		if _, err := c.WriteTo(buf, netip.AddrPort{}); err != nil {
			t.Fatal(err)
		}
		// The datagram vanished. The router, at b's address, quotes its first
		// packet.
		quote := packetOf(c.LocalAddr().Addr(), to, ip.ProtoUDP, udpOf(c.LocalAddr(), c.RemoteAddr(), buf[:1400]))[14:600]
		var m []byte
		if to.Is4() {
			m = icmpOf(to, c.LocalAddr().Addr(), 3, 4, path, quote)
		} else {
			m = icmpOf(to, c.LocalAddr().Addr(), 2, 0, path, quote)
		}
		dev := a.cfg.Links[0].Steering.(*sim.Device)
		dev.Inject(0, m)
		takeAll(a)
		c.SetDeadline(time.Now().Add(patience))
		if _, err := c.WriteTo(buf, netip.AddrPort{}); err != syscall.EMSGSIZE {
			t.Fatal(err)
		}
		if _, err := c.WriteTo(buf, netip.AddrPort{}); err != nil {
			t.Fatal(err)
		}
		if n, _, _, _, err := c.ReadFrom(buf); n != len(buf) || err != nil {
			t.Errorf("%v: after packet too big: %d, %v", to, n, err)
		}
		least := 1300 // for IPv6, less than 1280 is refused
		if to.Is4() {
			least = ip.MinPathMTU4
			dev.Inject(0, icmpOf(to, c.LocalAddr().Addr(), 3, 4, 68, quote))
		}
		takeAll(a)
		a.begin()
		if m := a.dests.mtuOf(c.dst, a.now); m != least {
			t.Errorf("%v: the path's MTU is %d, want %d", to, m, least)
		}
		a.now += pathMTUTime
		if m := a.dests.mtuOf(c.dst, a.now); m != 1500 {
			t.Errorf("%v: the path's MTU is %d for ever", to, m)
		}
		a.now = nanotime()
		a.end()
	}
}

// TestRxStarved: a stack that had no frame left to receive into hears again
// once there are some, without a packet to remind it.
func TestRxStarved(t *testing.T) {
	a, b := newPair(t, pairOptions{nic: sim.Config{Frames: 512, TxRing: 64, RxRing: 64}})
	locked(b, func() { b.host.Reserve = 0 }) // a socket may take all
	u, err := b.OpenUDP(netip.AddrPortFrom(addrB, 0), netip.AddrPort{}, &UDPOptions{RcvBuf: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	c, err := a.OpenUDP(netip.AddrPort{}, u.LocalAddr(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	buf := make([]byte, 1400)
	// One dropped packet may be a matter of a moment.
	for n := 0; b.queues[0].Stats().RxFillEmpty < 200; n++ {
		if n > 20*b.arena.Frames() {
			t.Fatal("the ring does not run empty")
		}
		if _, err := c.WriteTo(buf, netip.AddrPort{}); err != nil {
			t.Fatal(err)
		}
		b.pollOnce()
	}
	for !b.waits.armed.Load() {
		b.pollOnce()
	}
	time.Sleep(100 * time.Millisecond) // the reactor's last tick: from now on nobody polls
	for ok := true; ok; {
		_, _, ok = u.rq.Read(buf, new(udp.Info), true)
	}
	time.Sleep(100 * time.Millisecond)
	if _, err := c.WriteTo([]byte("again"), netip.AddrPort{}); err != nil {
		t.Fatal(err)
	}
	u.SetReadDeadline(time.Now().Add(patience))
	for n := 0; n != 5; { // what came late is in front
		if n, _, _, _, err = u.ReadFrom(buf); err != nil {
			t.Fatal(err)
		}
	}
}
