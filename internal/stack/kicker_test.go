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
	a.begin()
	defer a.end()
	send := func(gap int64, waits, batch bool) {
		t.Helper()
		a.now += gap
		a.kicker.sent++
		d, got := a.deferKick(u)
		if got != batch {
			t.Fatalf("batch %v, want %v", got, batch)
		}
		a.flush(d)
		if got := a.kicker.deferred.Load() > 0; got != waits {
			t.Fatalf("waits for a kick: %v, want %v", got, waits)
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
	for range deferMost - 1 {
		send(100, true, false)
	}
	send(100, false, true)
	// By time.
	send(0, true, false)
	for range floodWait / floodGap {
		send(floodGap, true, false)
	}
	send(1, false, true)
	// A pause with frames waiting.
	send(0, true, false)
	send(floodGap+1, false, true)
	// Each waits for an answer: no flood, however fast.
	send(floodGap+1, false, false)
	for range 2 * floodRun {
		u.paused()
		send(100, false, false)
	}
	// A flood that is answered now and then is one.
	run()
	send(0, true, false)
	u.paused()
	send(0, false, true)
	for range answerCost - 1 {
		send(0, false, false)
	}
	send(0, true, false)
	send(floodGap+1, false, true)
	// Something else was sent in the same turn.
	run()
	a.kicker.sent++
	d, _ := a.deferKick(u)
	a.kicker.sent++
	if a.flush(d); a.kicker.deferred.Load() > 0 {
		t.Error("others wait too")
	}
}

// Answers may share a kick as long as more are to be expected at once.
func TestDeferAnswer(t *testing.T) {
	a, _ := newPair(t, pairOptions{profile: Latency})
	a.begin()
	defer a.end()
	defer a.waits.woken.Store(0)
	write := func(gap int64, waits bool) {
		t.Helper()
		a.now += gap
		a.kicker.sent++
		a.flush(a.deferAnswer())
		a.kicker.lastAnswer = a.now // flush takes the time, which is not the test's
		if got := a.kicker.deferred.Load() > 0; got != waits {
			t.Fatalf("waits for a kick: %v, want %v", got, waits)
		}
	}
	a.waits.woken.Store(100)
	write(answerGap+1, false)
	for range answerRun - 1 {
		write(answerGap, false)
	}
	for range deferMost - 1 {
		write(100, true)
	}
	write(100, false)
	write(100, true)
	a.waits.woken.Store(0)
	write(100, false)
	write(10*answerGap, false) // no more were to come: no matter how long ago
	a.waits.woken.Store(1)
	write(100, true)
	write(answerGap+1, false)
	for range answerRun - 1 {
		write(100, false)
	}
	write(100, true)
}

// Both ways of Write share kicks: the one under the lock, for small pieces, and
// the one that leaves the work to whoever holds it.
func TestWritesShareKicks(t *testing.T) {
	for _, size := range []int{1, smallWrite + 1} {
		a, b := newPair(t, pairOptions{profile: Latency})
		c, _ := connect(t, a, b, addrB)
		a.waits.woken.Store(100) // as if they were to answer too
		shared := false
		for range 100 { // the reactor may kick between a write and the look
			a.begin()
			a.kicker.answers, a.kicker.expected = answerRun, false // as if quick ones came before
			a.end()
			if _, err := c.Write(make([]byte, size)); err != nil {
				t.Fatal(err)
			}
			if shared = a.kicker.deferred.Load() > 0; shared {
				break
			}
		}
		a.waits.woken.Store(0)
		if !shared {
			t.Errorf("each write of %d bytes has a kick of its own", size)
		}
	}
}

// A packet that waits for its kick leaves also if the sender does nothing more.
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
	if err := srv.SetReadDeadline(time.Now().Add(patience)); err != nil {
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
