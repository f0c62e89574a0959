package tcp

import (
	"testing"

	"github.com/onload-go/onload/ip"
)

// holed is a link that swallows packets of a to b above mtu bytes in silence.
func holed(t *testing.T, cfg Config, mtu int, caps Caps) *link {
	cfg.SndBuf, cfg.RcvBuf = 64<<10, 64<<10
	l := newLink(t, 1, &cfg, &cfg, caps)
	l.delay = 5 * ms
	l.connect()
	l.filter = func(to *end, s *Segment) bool {
		return to == l.a || s.Len+20+headerSize+tsSize <= mtu
	}
	return l
}

// RFC 8899 section 4.3, RFC 4821 section 7: behind a router that drops large
// packets and says nothing, small ones are sent, and then the largest that
// pass.
func TestRFC8899BlackHole(t *testing.T) {
	for _, mtu := range []int{1500, 1492, 1400, 1100, 1064, 600} {
		for name, caps := range map[string]Caps{"": {MaxFrags: 1}, " TSO": {MaxFrags: 16, TSO: 65535}} {
			l := holed(t, Config{}, mtu, caps)
			l.stream(5 * sec)
			c := &l.a.c
			least := mtu - mtuStep
			if mtu < baseMTU4 {
				least = minMTU4
			}
			if got := int(c.mtu); got > mtu || got < least {
				t.Errorf("MTU %d%s: found %d %+v", mtu, name, got, c.rare.search)
			}
			if (mtu == 1500) != (c.rare.search == nil) {
				t.Errorf("MTU %d%s: searched %v", mtu, name, c.rare.search != nil)
			}
			if c.received != 0 || l.b.c.received < 1<<20 {
				t.Errorf("MTU %d%s: %d bytes arrived", mtu, name, l.b.c.received)
			}
		}
	}
}

// A lost probe does not lower cwnd (RFC 4821 section 7.6.1).
func TestRFC4821ProbeNoCongestion(t *testing.T) {
	l := holed(t, Config{MTUProbing: MTUProbeAlways}, 1200, Caps{MaxFrags: 1})
	l.stream(2 * sec)
	st := &l.a.h.Stats
	if st.TCPMTUPFail == 0 || st.TCPMTUPSuccess == 0 {
		t.Fatalf("%d probes failed, %d passed", st.TCPMTUPFail, st.TCPMTUPSuccess)
	}
	if st.TCPSackRecovery != 0 || st.TCPTimeouts != 0 {
		t.Errorf("%d recoveries, %d timeouts", st.TCPSackRecovery, st.TCPTimeouts)
	}
	if got := int(l.a.c.mtu); got > 1200 || got < 1200-mtuStep {
		t.Errorf("found %d", got)
	}
}

// The search begins with small packets where it is asked for, and ends at the
// interface's MTU where all pass; later a larger MTU is tried again.
func TestRFC4821Always(t *testing.T) {
	l := holed(t, Config{MTUProbing: MTUProbeAlways}, 1400, Caps{MaxFrags: 1})
	if got := int(l.a.c.mtu); got != baseMTU4 {
		t.Errorf("begins with %d", got)
	}
	l.stream(2 * sec)
	if got := int(l.a.c.mtu); got > 1400 || got < 1400-mtuStep {
		t.Errorf("found %d", got)
	}
	l.filter = nil
	l.run(mtuAgain+sec, nil)
	l.stream(2 * sec)
	if got := int(l.a.c.mtu); got < 1500-mtuStep {
		t.Errorf("found %d of 1500", got)
	}
}

// RFC 9293 section 3.7.1, RFC 4821 section 7.2: no probe is larger than what
// the peer, or the user (TCP_MAXSEG), lets a segment be.
func TestRFC9293ProbeMSS(t *testing.T) {
	for _, most := range []int{1200, 500} {
		l := holed(t, Config{MTUProbing: MTUProbeAlways, MaxSeg: most}, 1500, Caps{MaxFrags: 1})
		largest := 0
		l.filter = func(to *end, s *Segment) bool {
			if to == l.b {
				largest = max(largest, s.Len)
			}
			return true
		}
		l.stream(3 * sec)
		l.run(mtuAgain+sec, nil)
		l.stream(3 * sec)
		if want := most - tsSize; largest > want || largest <= want-mtuStep { // it counts options (RFC 6691)
			t.Errorf("MSS %d: %d bytes in a segment, want %d", most, largest, want)
		}
	}
}

// Off means off; and a dead path is none with a black hole.
func TestMTUProbeOff(t *testing.T) {
	l := holed(t, Config{MTUProbing: MTUProbeOff}, 1400, Caps{MaxFrags: 1})
	l.stream(10 * sec)
	if l.b.c.received != 0 || l.a.c.mtu != 1500 {
		t.Errorf("%d bytes arrived, MTU %d", l.b.c.received, l.a.c.mtu)
	}
	w := dial(t, Config{})
	w.write(100)
	w.advance(30 * sec)
	if w.c.rare.search != nil || w.c.mtu != 1500 {
		t.Error("a small segment fell into a black hole")
	}
	w.out = nil
}

// A router's report ends the search.
func TestMTUProbeRouter(t *testing.T) {
	l := holed(t, Config{MTUProbing: MTUProbeAlways}, 1400, Caps{MaxFrags: 1})
	l.a.c.SetPathMTU(1300, l.now)
	if l.a.c.rare.search != nil || l.a.c.mtu != 1300 {
		t.Errorf("MTU %d", l.a.c.mtu)
	}
}

// RFC 1191 section 6.3, RFC 8201 section 4: a router's report does not hold for
// ever. After ten minutes a larger MTU is tried again: by probes, or without them
// by sending packets that a router may complain about.
func TestRFC8201Raise(t *testing.T) {
	for _, cfg := range []Config{{}, {MTUProbing: MTUProbeOff}} {
		l := holed(t, cfg, 1500, Caps{MaxFrags: 1})
		say := func(mtu int) {
			c := &l.a.c
			c.Write(make([]byte, 10))
			c.Output(l.now)
			c.ICMP(&ip.ICMPError{Type: 3, Code: 4, MTU: mtu, Proto: ip.ProtoTCP, HasSeq: true, Seq: c.sndUna}, l.now)
		}
		say(1000)
		l.run(mtuAgain/2, nil)
		say(900)
		l.run(mtuAgain-2*sec, nil)
		l.stream(sec)
		if got := int(l.a.c.mtu); got != 900 {
			t.Errorf("probing %d: MTU %d within ten minutes", cfg.MTUProbing, got)
		}
		l.run(3*sec, nil)
		before := l.b.c.received
		l.stream(2 * sec)
		if got := int(l.a.c.mtu); got < 1500-mtuStep || got > 1500 {
			t.Errorf("probing %d: MTU %d of 1500", cfg.MTUProbing, got)
		}
		if l.b.c.received-before < 1<<20 {
			t.Errorf("probing %d: %d bytes arrived", cfg.MTUProbing, l.b.c.received-before)
		}
		say(1300)
		if got := int(l.a.c.mtu); got != 1300 {
			t.Errorf("probing %d: MTU %d, the router says 1300", cfg.MTUProbing, got)
		}
	}
}

// RFC 4821 section 7.6.1: a probe that is lost alone is no congestion, beside
// another segment it is.
func TestRFC4821ProbeAndMore(t *testing.T) {
	for _, more := range []uint32{0, 1000} {
		w := dial(t, Config{})
		flight(w, 10)
		w.c.makeRare().search = &mtuSearch{low: 1000, high: 1500, most: 1500, size: 1052,
			start: w.iss + 1, end: w.iss + 1001, at: w.now}
		w.now += 10 * ms
		w.in("A", 1, 1, 0, w.sack(1001+more, 7001+more))
		reduced := w.c.cc.Ssthresh() != infSsthresh
		if w.c.lost != 1000+more || reduced != (more > 0) {
			t.Errorf("%d bytes lost, reduced %v", w.c.lost, reduced)
		}
		w.out = nil
	}
}

// RFC 8201 section 4: nothing above what a router said is tried in the minutes
// after, also where packets of that size vanish then.
func TestRFC8201BlackHoleBelow(t *testing.T) {
	l := holed(t, Config{}, 1200, Caps{MaxFrags: 1})
	c := &l.a.c
	largest, holed := 0, l.filter
	l.filter = func(to *end, s *Segment) bool {
		if to == l.b {
			largest = max(largest, s.Len+20+headerSize+tsSize)
		}
		return int(c.mtu) < 1400 || holed(to, s) // all pass once the search began
	}
	c.Write(make([]byte, 10))
	c.Output(l.now)
	c.ICMP(&ip.ICMPError{Type: 3, Code: 4, MTU: 1400, Proto: ip.ProtoTCP, HasSeq: true, Seq: c.sndUna}, l.now)
	l.stream(20 * sec)
	if got := int(c.mtu); got > 1400 || got < 1400-mtuStep {
		t.Errorf("MTU %d, found of 1400", got)
	}
	if largest > 1400 {
		t.Errorf("sent %d bytes", largest)
	}
}
