package tcp

import (
	"syscall"
	"testing"
	"time"
)

// RFC 7323 section 2.2: the window of a SYN-ACK is not scaled, also where it
// meets ours.
func TestRFC7323WindowOfSimultaneousOpen(t *testing.T) {
	w := newWire(t, Config{})
	w.c.Connect(w.now)
	w.feed("S", 0, 0, 0, mss(1000+tsSize), wscale(7), sackOK(true))
	w.want("S 0:0", "SA 0:1")
	w.feed("SA", 0, 1, 0, mss(1000+tsSize), wscale(7), sackOK(true), wnd(20000))
	w.state(Established)
	if n := w.c.Info(w.now).SendWindow; n > 20000 || n < 20000-128 {
		t.Errorf("send window %d", n)
	}
	w.out = nil
}

// RFC 6298 section 3 (Karn): a SYN that was sent again gives no sample, also
// where the peer's SYN answers it.
func TestRFC6298SimultaneousOpen(t *testing.T) {
	w := newWire(t, Config{})
	w.c.Connect(w.now)
	w.advance(1500 * ms)
	w.feed("S", 0, 0, 0, mss(1000+tsSize), wscale(0), sackOK(true))
	w.now += 10 * ms
	w.feed("A", 1, 1, 0)
	w.state(Established)
	if d := w.c.rtt.SRTT(); d != 0 {
		t.Errorf("round trip of %v", time.Duration(d))
	}
	w.out = nil
}

// A device that is full when the first SYN is to leave is asked again soon,
// and one that takes nothing is given up as a peer that does not answer.
func TestDeviceRefusesSYN(t *testing.T) {
	w := newWire(t, Config{})
	w.full = true
	w.c.Connect(w.now)
	w.advance(5 * ms)
	w.full = false
	w.advance(10 * ms)
	w.want("S 0:0")
	w.now += 10 * ms
	w.synAck()
	if d := w.c.rtt.SRTT(); d != 15*ms {
		t.Errorf("round trip of %v", time.Duration(d))
	}
	w.state(Established)
	w = newWire(t, Config{})
	w.full = true
	w.c.Connect(w.now)
	w.advance(120 * sec)
	w.state(SynSent)
	w.advance(10 * sec)
	w.err(syscall.ETIMEDOUT)
}
