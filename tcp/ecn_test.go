package tcp

import (
	"fmt"
	"net/netip"
	"testing"
)

// dialECN opens w with ECN.
func dialECN(t testing.TB, cfg Config) *wire {
	t.Helper()
	cfg.ECN = ECNOn
	w := newWire(t, cfg)
	w.c.Connect(w.now)
	w.want("SEW 0:0")
	w.now += 10 * ms
	w.feed("SAE", 0, 1, 0, mss(1000+tsSize), wscale(0), sackOK(true))
	w.want("A 1:1")
	if !w.c.Info(w.now).ECN {
		t.Fatal("no ECN")
	}
	w.c.quick = 0
	w.c.lastData = w.now
	w.c.rcvMSS = 1000
	return w
}

// flightECN puts n full segments in flight, with a window of as many.
func flightECN(w *wire, first uint32, n int) {
	w.t.Helper()
	w.c.cc.SetCwnd(uint32(n) * 1000)
	w.write(1000 * n)
	want := segments(first, n, true)
	for i := range want {
		want[i] += " ecn 2"
	}
	w.want(want...)
}

// RFC 3168 section 6.1.1: the client.
func TestRFC3168NegotiateActive(t *testing.T) {
	for _, c := range []struct {
		name     string
		ecn      ECN
		syn      string
		answer   string
		on, sent bool // ECN is on; data is ECN-capable
	}{
		{"on", ECNOn, "SEW 0:0", "SAE", true, true},
		{"the peer does not", ECNOn, "SEW 0:0", "SA", false, false},
		{"the peer reflects", ECNOn, "SEW 0:0", "SAEW", false, false},
		{"CWR alone", ECNOn, "SEW 0:0", "SAW", false, false},
		{"not asked", ECNAccept, "S 0:0", "SAE", false, false},
		{"off", ECNOff, "S 0:0", "SAE", false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWire(t, Config{ECN: c.ecn})
			w.c.Connect(w.now)
			w.want(c.syn)
			w.feed(c.answer, 0, 1, 0, mss(1000+tsSize), wscale(0), sackOK(true))
			w.want("A 1:1") // never ECN-capable
			if got := w.c.Info(w.now).ECN; got != c.on {
				t.Errorf("ECN %v", got)
			}
			w.write(1000)
			if c.sent {
				w.want("PA 1:1 len 1000 ecn 2")
			} else {
				w.want("PA 1:1 len 1000")
			}
		})
	}
}

// RFC 3168 section 6.1.1.1: a repeated SYN does not ask, and its sender sends
// nothing ECN-capable. But marks must be echoed: the peer may answer the first SYN.
func TestRFC3168NegotiateAgain(t *testing.T) {
	w := newWire(t, Config{ECN: ECNOn})
	w.c.Connect(w.now)
	w.want("SEW 0:0")
	w.advance(1100 * ms)
	w.want("S 0:0")
	w.feed("SAE", 0, 1, 0, mss(1000+tsSize), wscale(0), sackOK(true))
	w.want("A 1:1")
	w.write(1000)
	w.want("PA 1:1 len 1000")
	w.feed("PA", 1, 1001, 10, ce)
	w.want("AE 1001:11")
	// An echo that nothing can have caused is not heard.
	cwnd := w.c.cwnd()
	w.write(1000)
	w.want("PAE 1001:11 len 1000")
	w.feed("AE", 11, 2001, 0)
	if w.c.cwnd() < cwnd {
		t.Errorf("cwnd %d, was %d", w.c.cwnd(), cwnd)
	}
}

// RFC 3168 section 6.1.1: simultaneous open.
func TestRFC3168NegotiateSimultaneous(t *testing.T) {
	for _, c := range []struct {
		ecn  ECN
		peer string
		want string
		on   bool
	}{
		{ECNOn, "SEW", "SAE 0:1", true},
		{ECNOn, "S", "SA 0:1", false},
		{ECNAccept, "SEW", "SA 0:1", false}, // our SYN did not ask
	} {
		w := newWire(t, Config{ECN: c.ecn})
		w.c.Connect(w.now)
		w.out = nil
		w.feed(c.peer, 0, 0, 0, mss(1000+tsSize), wscale(0), sackOK(true))
		w.want(c.want)
		w.feed("A", 1, 1, 0)
		w.state(Established)
		if got := w.c.Info(w.now).ECN; got != c.on {
			t.Errorf("%v, %s: ECN %v", c.ecn, c.peer, got)
		}
	}
}

// RFC 3168 section 6.1.1: the server, with and without memory of the SYN.
func TestRFC3168NegotiatePassive(t *testing.T) {
	const ask = FlagSYN | FlagECE | FlagCWR
	for _, c := range []struct {
		name string
		ecn  ECN
		syn  Flags
		ip   uint8 // codepoint of the SYN
		noTS bool
		on   bool
		cook bool // likewise with a cookie
	}{
		{"asked", ECNAccept, ask, ectNone, false, true, true},
		{"asked, on", ECNOn, ask, ectNone, false, true, true},
		{"off", ECNOff, ask, ectNone, false, false, false},
		{"not asked", ECNOn, FlagSYN, ectNone, false, false, false},
		{"half asked", ECNOn, FlagSYN | FlagECE, ectNone, false, false, false},
		{"ECN-capable SYN", ECNOn, ask, ect0, false, false, false},
		{"no timestamps", ECNOn, ask, ectNone, true, true, false},
	} {
		for _, cookie := range []bool{false, true} {
			b := newBench(t, 4, Config{ECN: c.ecn})
			on := c.on
			if cookie {
				b.fill()
				on = c.cook
			}
			syn := linuxSYN()
			syn.Flags, syn.ECN = c.syn, c.ip
			syn.Opt.HasTS = !c.noTS
			want := FlagSYN | FlagACK
			if on {
				want |= FlagECE
			}
			b.in(syn, "")
			b.in(reply(syn, b.one(want)), "x")
			if len(b.accepted) != 1 {
				t.Fatalf("%s, cookie %v: not accepted", c.name, cookie)
			}
			a := b.accepted[0]
			if got := a.Info(b.now).ECN; got != on || a.ecn&ecnECT != 0 != on {
				t.Errorf("%s, cookie %v: ECN %v, state %#x", c.name, cookie, got, a.ecn)
			}
		}
	}
}

// RFC 3168 section 6.1.1: after a SYN that does not ask the server is still to
// echo, but sends nothing ECN-capable.
func TestRFC3168NegotiatePassiveAgain(t *testing.T) {
	b := newBench(t, 4, Config{})
	syn := linuxSYN()
	syn.Flags |= FlagECE | FlagCWR
	b.in(syn, "")
	b.one(FlagSYN | FlagACK | FlagECE)
	b.now += second
	syn.Flags = FlagSYN
	b.in(syn, "")
	b.in(reply(syn, b.one(FlagSYN|FlagACK|FlagECE)), "x")
	if a := b.accepted[0]; a.ecn != ecnOn {
		t.Errorf("state %#x", a.ecn)
	}
}

// RFC 3168 section 6.1.3: a mark is echoed in every acknowledgement until CWR
// comes, which may be marked itself.
func TestRFC3168Receiver(t *testing.T) {
	w := dialECN(t, Config{})
	w.feed("A", 1, 1, 1000)
	w.want()
	w.feed("A", 1001, 1, 1000, ce)
	w.want("AE 1:2001")
	w.feed("A", 2001, 1, 1000)
	w.want("AE 1:3001") // it is to hear soon
	w.write(1000)
	w.want("PAE 1:3001 len 1000 ecn 2")
	w.feed("A", 4001, 1001, 1000) // out of order
	w.want("AE 1001:3001 sack 4001-5001")
	w.feed("AW", 3001, 1001, 1000)
	w.want("A 1001:5001")
	w.feed("AW", 5001, 1001, 1000, ce)
	w.want("AE 1001:6001")
	if n := w.h.Stats.InCEPkts; n != 2 {
		t.Errorf("%d marks counted", n)
	}
	// Section 6.1.5: a mark outside of the window means nothing.
	w.feed("AW", 5001, 1001, 1000)
	w.want("AE 1001:6001 sack 5001-6001")
	w.feed("AW", 6001, 1001, 0)
	w.c.set(markAckNow)
	w.c.Output(w.now)
	w.want("AE 1001:6001")
	w.feed("AW", 6001, 1001, 1000)
	w.want("A 1001:7001")
	w.feed("A", 6001, 1001, 1000, ce)
	w.want("A 1001:7001 sack 6001-7001")
}

// A mark on a connection without ECN means nothing.
func TestRFC3168ReceiverOff(t *testing.T) {
	w := dial(t, Config{})
	w.feed("A", 1, 1, 1000, ce)
	w.advance(100 * ms)
	w.want("A 1:1001")
}

// RFC 3168 sections 6.1.2 and 6.1.4 to 6.1.6: one reduction for a window of
// data, which PRR spreads over it (RFC 6937); CWR with the first new data; and
// nothing but new data is ECN-capable.
func TestRFC3168Sender(t *testing.T) {
	w := dialECN(t, Config{Congestion: "newreno"})
	flightECN(w, 1, 10)
	w.write(40000)
	w.want()
	w.feed("AE", 1, 2001, 0)
	if got := w.c.cc.Ssthresh(); got != 8000 {
		t.Errorf("ssthresh %d, want 0.8 of 10000", got)
	}
	w.want("AW 10001:1 len 1000 ecn 2") // 8,000 are in flight, PRR sends one
	if got := w.c.Info(w.now).Recovery; got != "cwr" {
		t.Errorf("recovery %q", got)
	}
	for i := range uint32(8) {
		w.feed("AE", 1, 3001+1000*i, 0) // the peer does not have CWR yet
	}
	w.out = nil
	if got := w.c.cc.Ssthresh(); got != 8000 {
		t.Errorf("ssthresh %d: reduced twice in a window", got)
	}
	if w.h.Stats.TCPECNReductions != 1 {
		t.Errorf("%d reductions", w.h.Stats.TCPECNReductions)
	}
	// 10,001 is acknowledged, but not what carried CWR. Then it is: an echo is
	// a new one.
	w.feed("AE", 1, 11001, 0)
	if got := w.c.cc.Ssthresh(); got != 6400 || w.h.Stats.TCPECNReductions != 2 {
		t.Errorf("ssthresh %d, %d reductions; want the second", got, w.h.Stats.TCPECNReductions)
	}
	// Not the acknowledgements.
	w.out = nil
	w.feed("A", 1, 11001, 1000)
	w.advance(50 * ms)
	if got := w.out[0]; got != "A "+w.out[0][2:] || w.last.Flags.Has(FlagCWR) {
		t.Errorf("acknowledgement %q", got)
	}
}

// RFC 3168 section 6.1.5: no retransmission is ECN-capable, nor carries CWR;
// what is sent for the first time in recovery does. The answer to loss and
// echo is one.
func TestRFC3168Recovery(t *testing.T) {
	w := dialECN(t, Config{Congestion: "newreno"})
	flightECN(w, 1, 10)
	w.write(20000)
	w.feed("A", 1, 1, 0, w.sack(1001, 2001))
	w.feed("A", 1, 1, 0, w.sack(1001, 3001))
	w.out = nil
	w.feed("AE", 1, 1, 0, w.sack(1001, 5001))
	if len(w.out) == 0 || w.out[0] != "A 1:1 len 1000" {
		t.Fatalf("sent %q", w.out)
	}
	if w.c.recovery != inRecovery {
		t.Fatal("no recovery")
	}
	got := w.c.cc.Ssthresh()
	first := w.c.sndNxt - w.iss // to carry CWR
	w.out = nil
	for i := range uint32(5) {
		w.feed("AE", 1, 1, 0, w.sack(1001, 6001+1000*i))
	}
	if w.c.cc.Ssthresh() != got || w.h.Stats.TCPECNReductions > 1 {
		t.Errorf("ssthresh %d, was %d; %d reductions", w.c.cc.Ssthresh(), got, w.h.Stats.TCPECNReductions)
	}
	if len(w.out) == 0 || w.out[0] != fmt.Sprintf("AW %d:1 len 1000 ecn 2", first) {
		t.Errorf("sent %q in recovery", w.out)
	}
	// The acknowledgement that ends recovery may still echo: it is of what
	// came before CWR.
	n := w.h.Stats.TCPECNReductions
	w.feed("AE", 1, first, 0)
	if w.c.recovery != noRecovery || w.h.Stats.TCPECNReductions != n {
		t.Errorf("recovery %d, %d reductions", w.c.recovery, w.h.Stats.TCPECNReductions)
	}
	w.feed("AE", 1, first+1000, 0)
	if w.h.Stats.TCPECNReductions != n+1 {
		t.Error("a new mark was not answered")
	}
}

// A loss right after an echo is answered already: RFC 3168 section 6.1.2.
func TestRFC3168LossAfterEcho(t *testing.T) {
	for _, timeout := range []bool{false, true} {
		w := dialECN(t, Config{Congestion: "newreno"})
		flightECN(w, 1, 10)
		w.feed("AE", 1, 2001, 0)
		if timeout {
			w.advance(2 * sec)
			if w.c.recovery != inLoss || w.c.cwnd() > 2000 {
				t.Fatalf("recovery %d, cwnd %d", w.c.recovery, w.c.cwnd())
			}
		} else {
			w.feed("A", 1, 2001, 0, w.sack(3001, 7001))
			if w.c.recovery != inRecovery {
				t.Fatal("no recovery")
			}
		}
		if got := w.c.cc.Ssthresh(); got != 8000 {
			t.Errorf("timeout %v: ssthresh %d, want 8000", timeout, got)
		}
		// Nothing of it is undone.
		w.feed("A", 1, 10001, 0, tsecr(w.lastTS-5000))
		if got := w.c.cc.Ssthresh(); got != 8000 || w.c.cwnd() > 10000 {
			t.Errorf("timeout %v: ssthresh %d, cwnd %d", timeout, got, w.c.cwnd())
		}
	}
}

// A recovery that proves needless is undone, with its CWR, but not where there
// was an echo too.
func TestRFC3168Undo(t *testing.T) {
	for _, echo := range []bool{false, true} {
		w := dialECN(t, Config{Congestion: "newreno"})
		flightECN(w, 1, 10)
		first := w.lastTS
		w.advance(10 * ms)
		w.feed("A", 1, 1, 0, w.sack(1001, 5001), tsecr(first))
		if w.c.recovery != inRecovery {
			t.Fatal("no recovery")
		}
		fl := "A"
		if echo {
			fl = "AE"
		}
		w.feed(fl, 1, 1, 0, w.sack(1001, 6001), tsecr(first))
		w.feed("A", 1, 6001, 0, tsecr(first)) // of the original, RFC 3522
		undone := w.c.cc.Ssthresh() == infSsthresh
		if w.c.recovery != noRecovery || undone == echo {
			t.Errorf("echo %v: recovery %d, ssthresh %d", echo, w.c.recovery, w.c.cc.Ssthresh())
		}
		w.out = nil
		w.write(1000)
		want := "PA 10001:1 len 1000 ecn 2"
		if echo {
			want = "PAW 10001:1 len 1000 ecn 2"
		}
		w.want(want)
	}
}

// RFC 3168 section 6.1.6: no window probe is ECN-capable.
func TestRFC3168WindowProbe(t *testing.T) {
	w := dialECN(t, Config{})
	w.feed("A", 1, 1, 0, wnd(0))
	w.write(1000)
	w.advance(sec)
	for _, s := range w.out {
		if s != "A 0:1" {
			t.Errorf("sent %q", s)
		}
	}
	if len(w.out) == 0 {
		t.Error("no probe")
	}
}

// TSO (RFC 3168 section 6.1.2): of a packet that the device cuts only the first
// segment says CWR. Here the frame that tells so is one large packet.
func TestRFC3168Segmentation(t *testing.T) {
	l := newLink(t, 1, &Config{ECN: ECNOn}, &Config{ECN: ECNOn}, Caps{MaxFrags: 40, TSO: 65535})
	l.connect()
	cwr := 0
	l.filter = func(to *end, s *Segment) bool {
		if to == l.b && s.Flags.Has(FlagCWR) {
			cwr++
			if s.Len == 0 {
				t.Error("CWR without data")
			}
		}
		return true
	}
	l.a.c.ecn |= ecnCWR
	l.a.c.Write(make([]byte, 100000))
	l.a.c.Output(l.now)
	l.run(sec, nil)
	if cwr != 1 {
		t.Errorf("%d segments with CWR", cwr)
	}
}

// No peer makes the window smaller than two segments, nor lowers it without
// end.
func TestRFC3168EchoForEver(t *testing.T) {
	for _, name := range CongestionNames() {
		w := dialECN(t, Config{Congestion: name, NoDelay: true})
		w.write(200000)
		una := uint32(1)
		for range 200 {
			w.now += 10 * ms
			if w.c.sndNxt != w.c.sndUna {
				una = w.c.sndNxt - w.iss
			}
			w.feed("AE", 1, una, 0)
			w.advance(ms)
			if w.c.cwnd() < 1000 {
				t.Fatalf("%s: cwnd %d", name, w.c.cwnd())
			}
		}
		if una < 200000 {
			t.Errorf("%s: %d bytes sent", name, una)
		}
	}
}

// RFC 8511 section 3.1: the reduction of a mark, and that of a loss.
func TestRFC8511Reduction(t *testing.T) {
	for _, c := range []struct {
		name       string
		mark, loss uint32
	}{
		{"newreno", 80, 50}, {"cubic", 85, 70},
	} {
		var m, l Congestion
		for _, cc := range []*Congestion{&m, &l} {
			cc.Init(c.name, 1000)
			cc.SetCwnd(100e3)
		}
		m.OnECN(sec)
		l.EnterRecovery()
		if m.Ssthresh() != c.mark*1000 || l.Ssthresh() != c.loss*1000 {
			t.Errorf("%s: %d after a mark, %d after a loss; want %d%% and %d%%", c.name, m.Ssthresh(), l.Ssthresh(), c.mark, c.loss)
		}
		m.SetCwnd(3000)
		m.OnECN(2 * sec)
		if m.Ssthresh() < 2000 {
			t.Errorf("%s: ssthresh %d", c.name, m.Ssthresh())
		}
	}
}

// ECN costs nothing where it is on.
func TestECNAllocs(t *testing.T) {
	w := dialECN(t, Config{})
	s := Segment{Local: addrA, Remote: netip.AddrPort{}, Flags: FlagACK | FlagCWR | FlagECE, ECN: ectCE, Len: 1}
	if n := testing.AllocsPerRun(100, func() {
		w.c.receiveECN(&s)
		w.c.sendECN(&s, new(ackState), w.now)
		w.c.reduced()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// The reduction that a mark asked for ends with silence, which lowers the window:
// cwnd is not raised to ssthresh afterwards.
func TestECNThenIdle(t *testing.T) {
	w := dialECN(t, Config{})
	flightECN(w, 1, 60)
	w.now += 10 * ms
	w.feed("A", 1, 50001, 0)
	w.feed("AE", 1, 60001, 0)
	w.out = nil
	w.advance(60 * sec)
	w.write(60000)
	w.out = nil
	w.now += 10 * ms
	una := w.c.sndNxt - w.iss
	w.feed("A", 1, una, 0)
	if got := w.c.cc.Cwnd(); got > 25000 {
		t.Errorf("cwnd %d", got)
	}
}
