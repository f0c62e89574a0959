package tcp

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// floodFrom is a SYN of a flood, each n from another address and port.
func floodFrom(n uint32) Segment {
	s := linuxSYN()
	s.Local = testLocal
	s.Seq = n * 7919
	s.Remote = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 1024+uint16(n%50000))
	return s
}

// fill fills the SYN queue, so that cookies are sent.
func (b *bench) fill() {
	for n := uint32(0); b.l.Embryonic() < b.l.backlog; n++ {
		b.in(floodFrom(n), "")
	}
}

// RFC 4987 section 3.6, with options in the timestamp as in Linux.
func TestCookieHandshake(t *testing.T) {
	type result struct {
		mss          uint16
		sndWS, rcvWS uint8
		sack, ts, ws bool
	}
	for _, c := range []struct {
		name string
		opt  Options
		want result
		v6   bool
	}{
		{"Linux", linuxSYN().Opt, result{1460, 7, 8, true, true, true}, false},
		{"IPv6", Options{MSS: 1440, SACKPermitted: true, HasTS: true, TSVal: 9, WScale: 14}, result{1440, 14, 8, true, true, true}, true},
		{"shift 0, no SACK", Options{MSS: 1459, HasTS: true, TSVal: 9, WScale: 0}, result{1440, 0, 8, false, true, true}, false},
		{"no window scale", Options{MSS: 9000, HasTS: true, SACKPermitted: true, WScale: -1}, result{1460, 0, 0, true, true, false}, false},
		{"no timestamps: no options", Options{MSS: 1300, SACKPermitted: true, WScale: 7}, result{1220, 0, 0, false, false, false}, false},
		{"no MSS", Options{WScale: -1}, result{536, 0, 0, false, false, false}, false},
		{"tiny MSS", Options{MSS: 1, WScale: -1}, result{536, 0, 0, false, false, false}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t, 4, Config{RcvBuf: 8 << 20}) // shift 8
			b.fill()
			syn := linuxSYN()
			syn.Opt = c.opt
			if c.v6 {
				syn.Local, syn.Remote = testV6, testV6Peer
			}
			b.in(syn, "")
			sa := b.one(FlagSYN | FlagACK)
			if b.l.Embryonic() != 4 {
				t.Fatalf("%d entries", b.l.Embryonic())
			}
			if sa.Opt.HasTS != c.want.ts || sa.Opt.SACKPermitted != c.want.sack || (sa.Opt.WScale >= 0) != c.want.ws {
				t.Errorf("SYN-ACK grants %+v", sa.Opt)
			}
			b.now += 30 * second
			b.in(reply(syn, sa), "hello")
			b.silent("final ACK")
			if len(b.accepted) != 1 {
				t.Fatal("not accepted")
			}
			a := b.accepted[0]
			got := result{a.peerMSS, a.sndWS, a.rcvWS, a.has(markSACK), a.has(markTS), a.has(markWS)}
			if !got.ws {
				got.sndWS, got.rcvWS = 0, 0
			}
			if got != c.want {
				t.Errorf("connection has %+v, want %+v", got, c.want)
			}
			if st := &b.h.Stats; st.SyncookiesSent != 1 || st.SyncookiesRecv != 1 || st.SyncookiesFailed != 0 || st.PassiveOpens != 1 {
				t.Errorf("sent %d, received %d, failed %d, opened %d", st.SyncookiesSent, st.SyncookiesRecv, st.SyncookiesFailed, st.PassiveOpens)
			}
			p := make([]byte, 10)
			if n, _, _ := a.Read(p); string(p[:n]) != "hello" {
				t.Errorf("read %q", p[:n])
			}
			// The timestamps go on where the SYN-ACK's were, never back.
			if c.want.ts && seqLT(a.timestamp(b.now), sa.Opt.TSVal) {
				t.Error("the timestamp clock went backwards")
			}
		})
	}
}

// Timestamps in cookies are never ahead of the clock, at most 64 ms behind,
// and carry their options.
func TestCookieTimestamp(t *testing.T) {
	for now := int64(0); now < 200e6; now += 1e6 {
		for opt := range uint32(synCookieBits + 1) {
			v := synCookieTimestamp(now, opt)
			if v&synCookieBits != opt || timestamp(now)-v > synCookieBits {
				t.Fatalf("options %#x at %d ms: timestamp %d", opt, timestamp(now), v)
			}
		}
	}
}

func TestCookieRefused(t *testing.T) {
	b := newBench(t, 4, Config{})
	syn := linuxSYN()
	// None was ever sent: none is looked at.
	b.in(Segment{Seq: 5001, Ack: b.h.synCookie(testLocal, testRemote, 5000, 1460, b.now) + 1, Flags: FlagACK}, "")
	b.one(FlagRST)
	if b.h.Stats.SyncookiesFailed != 0 {
		t.Error("a cookie was looked at though none was sent")
	}

	b.fill()
	b.in(syn, "")
	good := reply(syn, b.one(FlagSYN|FlagACK))
	for what, edit := range map[string]func(s *Segment){
		"number + 1":       func(s *Segment) { s.Ack++ },
		"another minute":   func(s *Segment) { s.Ack += 1 << 24 },
		"another peer":     func(s *Segment) { s.Remote = netip.AddrPortFrom(testRemote.Addr(), 7) },
		"another echo":     func(s *Segment) { s.Opt.TSEcr += 1 << 20 },
		"another sequence": func(s *Segment) { s.Seq += 100 },
	} {
		s := good
		edit(&s)
		b.in(s, "x")
		if r := b.one(FlagRST); r.Seq != s.Ack {
			t.Errorf("%s: reset %+v", what, r)
		}
		if len(b.accepted) != 0 {
			t.Fatalf("%s: accepted", what)
		}
	}
	if b.h.Stats.SyncookiesFailed != 5 {
		t.Errorf("%d failures counted, want 5", b.h.Stats.SyncookiesFailed)
	}
	s := good
	s.Flags |= FlagRST
	b.in(s, "")
	b.silent("RST with the right number")
	b.now += 3 * int64(time.Minute)
	b.in(good, "")
	b.one(FlagRST)
	if len(b.accepted) != 0 {
		t.Fatal("a cookie of three minutes was taken")
	}
}

// Without timestamps in the way: the age is counted in minutes, two at most.
func TestCookieAge(t *testing.T) {
	h := &Host{ISNKey: [16]byte{5}}
	for start := int64(0); start < 300*synCookiePeriod; start += 17 * second {
		k := h.synCookie(testLocal, testRemote, 5000, 1460, start)
		for _, c := range []struct {
			after int64
			want  bool
		}{{0, true}, {synCookiePeriod, true}, {2 * synCookiePeriod, false}} {
			if _, ok := h.openSYNCookie(testLocal, testRemote, 5000, k, start+c.after); ok != c.want {
				t.Fatalf("made at %v, %v later: valid %v", time.Duration(start), time.Duration(c.after), ok)
			}
		}
		// Eight bits of minutes come round; the second hash does not.
		if _, ok := h.openSYNCookie(testLocal, testRemote, 5000, k, start+256*synCookiePeriod); ok {
			t.Fatalf("made at %v, valid 256 minutes later", time.Duration(start))
		}
	}
}

// Guessing does not get in: of a million random numbers at most a few fit.
func TestCookieGuess(t *testing.T) {
	h := &Host{ISNKey: [16]byte{5}}
	r := rand.New(rand.NewPCG(1, 2))
	hits := 0
	for range 1_000_000 {
		if _, ok := h.openSYNCookie(testLocal, testRemote, r.Uint32(), r.Uint32(), 1000*second); ok {
			hits++
		}
	}
	if hits > 2 { // expected: 1e6 * 2/256 * 4/2^24 = 0.002
		t.Errorf("%d of a million guesses fit", hits)
	}
}

// Attack 7: memory and cost stay bounded, and a client that means it gets in
// all the while.
func TestSynFlood(t *testing.T) {
	const backlog = 128
	b, fresh := newBench(t, backlog, Config{}), newBench(t, backlog, Config{})
	b.quiet, fresh.quiet = true, true
	var s Segment
	n := uint32(0)
	burst := func(b *bench, count int) time.Duration {
		start := time.Now()
		for range count {
			s = floodFrom(n)
			n++
			b.l.Input(&s, b.now)
			b.now += 1000 // a million a second
			if b.l.Deadline() <= b.now {
				b.l.Expire(b.now)
			}
		}
		return time.Since(start)
	}
	for i := range uint32(20) {
		burst(b, 10_000)
		if b.l.Embryonic() > backlog || len(b.l.queue.slab) > 2*backlog+2 {
			t.Fatalf("%d entries, room for %d", b.l.Embryonic(), len(b.l.queue.slab))
		}
		b.quiet = false
		syn := linuxSYN()
		syn.Local, syn.Remote = testLocal, netip.AddrPortFrom(testRemote.Addr(), uint16(1000+i))
		b.in(syn, "")
		b.in(reply(syn, b.one(FlagSYN|FlagACK)), "GET /")
		if len(b.accepted) != int(i)+1 {
			t.Fatalf("legitimate client %d did not get in", i)
		}
		b.l.Taken(b.accepted[i])
		b.quiet = true
	}
	// The least of ten, one by one beside a listener whose flood begins: others use
	// the processors now and then.
	burst(fresh, 10_000)
	first, last := burst(fresh, 10_000), burst(b, 10_000)
	for range 9 {
		first, last = min(first, burst(fresh, 10_000)), min(last, burst(b, 10_000))
	}
	if last > 4*first {
		t.Errorf("10,000 SYNs cost %v at first and %v in the end", first, last)
	}
	if got := testing.AllocsPerRun(1000, func() { burst(b, 1) }); got != 0 {
		t.Errorf("%v allocations for a SYN", got)
	}
	// After the flood the queue empties by itself, and gives its room back.
	for b.l.Embryonic() > 0 {
		b.now = b.l.Deadline()
		b.l.Expire(b.now)
	}
	if b.h.Stats.TCPTimeouts == 0 {
		t.Error("nothing expired")
	}
}

// While the queue is more than half full, peers that do not answer are dropped
// sooner.
func TestTightRetries(t *testing.T) {
	b := newBench(t, 4, Config{})
	start := b.now
	b.fill()
	for b.l.Embryonic() > 2 {
		b.now = b.l.Deadline()
		b.l.Expire(b.now)
	}
	if got := (b.now - start) / second; got != 7 {
		t.Errorf("the first go after %d s, want 7", got)
	}
	for b.l.Embryonic() > 0 {
		b.now = b.l.Deadline()
		b.l.Expire(b.now)
	}
	if got := (b.now - start) / second; got != 63 {
		t.Errorf("the last go after %d s, want 63", got)
	}
}

// A queue that was large gives its memory back.
func TestSynQueueShrinks(t *testing.T) {
	b := newBench(t, 1000, Config{})
	b.quiet = true
	b.fill()
	if len(b.l.queue.slab) < 1000 {
		t.Fatalf("room for %d", len(b.l.queue.slab))
	}
	for n := range uint32(1000) {
		s := floodFrom(n)
		s.Flags, s.Seq = FlagRST, s.Seq+1
		b.l.Input(&s, b.now)
	}
	if b.l.Embryonic() != 0 || b.l.queue.slab != nil {
		t.Errorf("%d entries, room for %d", b.l.Embryonic(), len(b.l.queue.slab))
	}
	b.fill() // and works again
}

// Expire bounds what it sends at once.
func TestExpireBatch(t *testing.T) {
	b := newBench(t, 1000, Config{})
	b.quiet = true
	b.fill()
	b.now += 2 * second
	b.quiet, b.sent = false, nil
	b.l.Expire(b.now)
	if len(b.sent) != expireBatch || b.l.Deadline() > b.now {
		t.Errorf("%d SYN-ACKs at once; next at %d, now %d", len(b.sent), b.l.Deadline(), b.now)
	}
}

func BenchmarkSynFlood(b *testing.B) {
	p := newBench(b, 128, Config{})
	p.quiet = true
	b.ReportAllocs()
	for n := uint32(0); b.Loop(); n++ {
		s := floodFrom(n)
		p.l.Input(&s, p.now)
	}
}
