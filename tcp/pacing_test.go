package tcp

import "testing"

// SO_MAX_PACING_RATE: a flow with any congestion control keeps to the rate,
// and one without the limit has no pacer.
func TestMaxPacingRate(t *testing.T) {
	for _, name := range CongestionNames() {
		hs := newPathHosts(t, 16384)
		p := newPath(t, 1)
		p.rate, p.delay, p.buffer = 100e6/8, 5*ms, 1<<20
		f := p.add(hs, &Config{Congestion: name, SndBuf: 4 << 20, RcvBuf: 4 << 20}, 0)
		p.run(sec)
		c := &f.left.c
		if c.cc.pacer != nil && name != "bbr" {
			t.Errorf("%s is paced", name)
		}
		c.SetMaxPacingRate(1e6)
		p.run(sec) // what waited in the bottleneck leaves
		got := f.got
		p.run(4 * sec)
		if rate := float64(f.got-got) / 4; !near(rate, 1e6, 0.03) {
			t.Errorf("%s: %.0f bytes/s, want 1e6", name, rate)
		}
		if c.MaxPacingRate() != 1e6 || c.Info(p.now).PacingRate > 1e6 {
			t.Errorf("%s: limit %d, rate %d", name, c.MaxPacingRate(), c.Info(p.now).PacingRate)
		}
		sent := f.sent
		p.run(20 * ms)
		if n := f.sent - sent; n < 10 || n > 18 {
			t.Errorf("%s: %d segments in 20 ms, want 14", name, n)
		}
		c.SetMaxPacingRate(0)
		if c.cc.pacer != nil && name != "bbr" {
			t.Errorf("%s is still paced", name)
		}
		got = f.got
		p.run(4 * sec)
		if rate := float64(f.got-got) / 4; rate < 5e6 {
			t.Errorf("%s: %.0f bytes/s without a limit", name, rate)
		}
		p.close()
	}
}

// A late timer wheel costs no rate: the pacer makes up for what could have left
// meanwhile, but not for time in which nothing waited.
func TestPacerLateTimer(t *testing.T) {
	p := &pacer{rate: 10e6}
	now, sent := int64(1e9), 0
	for end := now + sec; now < end; {
		for p.ready(now) {
			p.sent(1000, now)
			sent += 1000
		}
		now = (p.at/(1<<20) + 2) << 20 // the tick after the next
		p.expire(now)
	}
	if sent < 9_900_000 || sent > 10_100_000 {
		t.Errorf("%d bytes in a second, want 10e6", sent)
	}
	now += 100 * sec
	p.late = false
	n := 0
	for p.ready(now) {
		p.sent(1000, now)
		n++
	}
	if n != 1 {
		t.Errorf("%d packets at once after idling, want 1", n)
	}
}

// The initial window leaves at once, later data at the rate; what leaves late
// has half of its time back. As Linux (tcp_update_skb_after_send).
func TestPacerBurst(t *testing.T) {
	var c Congestion
	c.Init("", 1000)
	p := c.newPacer()
	p.rate = 1e6 // a segment takes 1 ms
	now, n := int64(sec), 0
	for ; p.ready(now); n++ {
		p.sent(1000, now)
	}
	if n != 10 || p.at != now+ms/2 {
		t.Errorf("%d segments at once, the next after %d ns; want 10, 500000", n, p.at-now)
	}
	for _, late := range []int64{0, ms / 4, ms / 2, 100 * ms} {
		now = p.next + late
		p.sent(1000, now)
		if got, want := p.next-now, ms-min(late, ms/2); got != want {
			t.Errorf("late by %d ns: the next after %d, want %d", late, got, want)
		}
	}
	c.fresh = false
	if p := c.newPacer(); p.burst != 0 {
		t.Errorf("a connection paced later has a burst of %d bytes", p.burst)
	}
}

// Linux's tcp_tso_autosize: a packet is what the rate sends in a millisecond,
// two segments at least, 64 KiB at most.
func TestPacingQuantum(t *testing.T) {
	for _, c := range []struct {
		rate uint64
		want int
	}{{1000, 2896}, {2e6, 2896}, {10e6, 10000}, {1e9, 64 << 10}} {
		if got := (&pacer{rate: c.rate}).quantum(1448); got != c.want {
			t.Errorf("rate %d: quantum %d, want %d", c.rate, got, c.want)
		}
	}
}

// The pacing of other congestion controls follows their window in recovery,
// too (as Linux).
func TestPaceInRecovery(t *testing.T) {
	w := dial(t, Config{MaxPacingRate: 1e9})
	w.c.cc.SetCwnd(20000)
	w.write(20000)
	w.advance(10 * ms)
	w.feed("A", 1, 1, 0, w.sack(1001, 20001))
	if w.c.recovery != inRecovery {
		t.Fatal("no recovery")
	}
	if got, want := w.c.cc.PacingRate(), w.c.cc.alg().pacingRate(&w.c.cc, w.c.rtt.SRTT()); got != want {
		t.Errorf("rate %d, want %d", got, want)
	}
	w.out = nil
}
