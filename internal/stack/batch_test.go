package stack

import (
	"net/netip"
	"testing"
	"time"
)

// Datagrams may share a kick only in the midst of many, and not for long.
func TestDeferKick(t *testing.T) {
	a, b := newPair(t, pairOptions{profile: Throughput})
	u := udpPair(t, a, b, addrB, nil)
	a.lock.Lock()
	a.enter()
	defer a.leave()
	send := func(gap int64, waits, batch bool) {
		t.Helper()
		a.now += gap
		got := a.deferKick(u)
		if got != batch {
			t.Fatalf("batch %v, want %v", got, batch)
		}
		if got := a.kickDeferred(); got != waits {
			t.Fatalf("the kick waits: %v, want %v", got, waits)
		}
	}
	run := func() {
		t.Helper()
		send(floodGap+1, false, false)
		for range floodRun - 1 {
			send(floodGap, false, false)
		}
	}
	run()
	for range holdMost {
		send(100, true, false)
	}
	send(100, false, true)
	// By time.
	send(0, true, false)
	for range holdWait / floodGap {
		send(floodGap, true, false)
	}
	send(1, false, true)
	// A pause with frames waiting.
	send(0, true, false)
	send(floodGap+1, false, true)
	// Something else was sent in the same turn.
	run()
	a.deferKick(u)
	a.sent++
	if a.kickDeferred() {
		t.Error("others wait too")
	}
}

// What waits for its kick leaves also when the sender does nothing more.
func TestDeferredKicksEnd(t *testing.T) {
	a, b := newPair(t, pairOptions{profile: Throughput})
	srv, err := b.OpenUDP(netip.AddrPortFrom(addrB, 0), netip.AddrPort{}, &UDPOptions{RcvBuf: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	u, err := a.OpenUDP(netip.AddrPort{}, srv.LocalAddr(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	p := make([]byte, 64)
	if err := srv.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for n := range 200 {
		n += floodRun
		for range n {
			if _, err := u.WriteTo(p, netip.AddrPort{}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range n {
			if _, _, _, _, err := srv.ReadFrom(p); err != nil {
				t.Fatalf("datagram %d of %d: %v", i, n, err)
			}
		}
	}
}
