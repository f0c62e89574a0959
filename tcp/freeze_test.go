package tcp

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"syscall"
	"testing"
)

// change has e's connection change hands: it is frozen and resumed, or frozen, sent
// as bytes, and thawed as another Conn. Nothing of that may be seen on the wire.
func (e *end) change(resume bool) {
	l := e.l
	l.t.Helper()
	if e.tw != nil || e.c.owner == nil {
		return
	}
	before, sent := e.c.State(), e.sent
	s, err := e.c.Freeze(l.now)
	if err != nil {
		if !errors.Is(err, ErrState) || e.c.State() != before || before.movable() {
			l.t.Fatalf("%s: Freeze in %v: %v, now %v", e.name, before, err, e.c.State())
		}
		return
	}
	e.c.Output(l.now)
	e.c.Expire(l.now + 1000*sec)
	if e.sent != sent || e.c.Input(&Segment{}, l.now) {
		l.t.Fatalf("%s: a frozen connection lives", e.name)
	}
	if resume {
		e.c.Resume(s)
	} else {
		e.c.Free()
		e.c = Conn{}
		e.thaw(s)
	}
	if st := e.c.State(); st != before {
		l.t.Fatalf("%s: %v became %v", e.name, before, st)
	}
	if e.sent != sent {
		l.t.Fatalf("%s: a segment left", e.name)
	}
	if e.c.sndUna != e.c.sndNxt && e.c.rtoAt == 0 {
		l.t.Fatalf("%s: nothing watches what is in flight", e.name)
	}
	if msg := e.c.inconsistent(); msg != "" {
		l.t.Fatalf("%s: %s", e.name, msg)
	}
}

// thaw makes e's connection of s, which goes through its binary form.
func (e *end) thaw(s *Snapshot) {
	l := e.l
	l.t.Helper()
	b, err := s.MarshalBinary()
	if err != nil {
		l.t.Fatalf("%s: %v: %+v", e.name, err, s)
	}
	var t Snapshot
	if err := t.UnmarshalBinary(b); err != nil {
		l.t.Fatalf("%s: %v: %+v", e.name, err, s)
	}
	if !reflect.DeepEqual(*s, t) {
		l.t.Fatalf("%s: %+v\nwas read as\n%+v", e.name, s, t)
	}
	if err := e.c.Thaw(e.h, e, e.cfg, &t, l.now); err != nil {
		l.t.Fatalf("%s: %v: %+v", e.name, err, s)
	}
	// The copy is what the original was.
	again := e.c.snapshot(e.c.State(), l.now)
	again.SendMSS, again.Hints = t.SendMSS, t.Hints
	if !reflect.DeepEqual(*again, t) {
		l.t.Fatalf("%s: %+v\nwas thawed as\n%+v", e.name, t, again)
	}
}

// edges watches what a peer would take offence at: the right edge of a window never
// moves back, nor does the clock of the timestamps.
func (l *link) edges() {
	type seen struct {
		window, clock bool
		edge, ts      uint32
	}
	var last [2]seen
	l.filter = func(to *end, s *Segment) bool {
		e, k := to.other(), &last[0]
		if e == l.b {
			k = &last[1]
		}
		if s.Flags&FlagRST != 0 {
			l.t.Fatalf("%s sent a reset: %+v", e.name, s)
		}
		edge := s.Ack + uint32(s.Wnd)<<e.c.ourShift()
		if e.tw == nil && e.c.State().receiving() {
			if k.window && seqLT(edge, k.edge) {
				l.t.Fatalf("%s took %d bytes of its window back", e.name, k.edge-edge)
			}
			k.window, k.edge = true, edge
		}
		if s.Opt.HasTS {
			if k.clock && seqLT(s.Opt.TSVal, k.ts) {
				l.t.Fatalf("%s: timestamp %d after %d", e.name, s.Opt.TSVal, k.ts)
			}
			k.clock, k.ts = true, s.Opt.TSVal
		}
		return true
	}
}

// A connection that changes hands between any two segments, at either end or at
// both, delivers the same streams: over a link that loses, reorders and duplicates,
// with all combinations of options, and half closed both ways.
func TestFreezeThaw(t *testing.T) {
	seeds, size := 16, 60000
	if testing.Short() {
		seeds = 6
	}
	if *long {
		seeds = 3000
	}
	changes := 0
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			l := frozenLink(t, uint64(seed))
			l.between = func() {
				for _, e := range []*end{l.a, l.b} {
					if l.rng.IntN(5) == 0 {
						e.change(l.rng.IntN(3) == 0)
						changes++
					}
				}
			}
			back := [...]int{size / 2, 0, size, 2 * size}[seed%4]
			slow := [...]float64{0, 0.5}[seed/4%2]
			l.transfer(size, back, slow)
			l.finish()
		})
	}
	if changes < 10*seeds {
		t.Errorf("connections changed hands %d times", changes)
	}
}

// frozenLink returns a connected link whose faults and options follow from seed.
func frozenLink(t testing.TB, seed uint64) *link {
	cfg := Config{
		NoSACK: seed%5 == 1, NoTimestamps: seed%7 == 1, NoDelay: seed%2 == 0, NoWindowScale: seed%11 == 3,
		Congestion: CongestionNames()[seed%3],
	}
	if seed%3 == 2 {
		cfg.MTU = 9000
	}
	if seed%4 == 3 {
		cfg.RcvBuf, cfg.SndBuf = 16384, 16384
	}
	if seed%6 == 1 {
		cfg.ECN = ECNOn
	}
	caps := Caps{MaxFrags: 1 + int(seed%20)}
	if seed%8 == 7 {
		caps.TSO = 65535
	}
	l := newLink(t, seed, &cfg, &cfg, caps)
	if seed%9 != 0 {
		l.loss, l.reorder, l.dup, l.corrupt, l.refuse, l.mark = 0.02, 0.05, 0.02, 0.01, 0.02, 0.02
	}
	l.nicHold = l.rng.Int64N(500e3)
	l.single = true
	l.connect()
	l.edges()
	return l
}

// A connection that cannot change hands stays as it is, and says why.
func TestFreezeRefused(t *testing.T) {
	w := newWire(t, Config{})
	refused := func(st State) {
		t.Helper()
		if s, err := w.c.Freeze(w.now); s != nil || !errors.Is(err, ErrState) || w.c.Frozen() {
			t.Fatalf("Freeze in %v: %v, %v", st, s, err)
		}
		w.state(st)
	}
	refused(Closed)
	w.c.Connect(w.now)
	w.want("S 0:0")
	refused(SynSent)
	w.now += 10 * ms
	w.synAck()
	w.want("A 1:1")
	w.c.CloseWrite(w.now)
	w.want("FA 1:1")
	w.feed("FA", 1, 2, 0)
	w.want("A 2:2")
	refused(TimeWaiting)
}

// What is in flight is sent again if nobody acknowledges it, with the old sequence
// numbers; what was not sent leaves at once when the window opens; a FIN that was
// sent before is part of what is in flight.
func TestThawSendsAgain(t *testing.T) {
	w := dial(t, Config{NoDelay: true}, wnd(2000))
	w.write(1000)
	w.want("PA 1:1 len 1000")
	w.write(2000)
	w.want("A 1001:1 len 1000")
	w.c.CloseWrite(w.now)
	w.want()
	w.thaw()
	w.state(FinWait1)
	w.c.Output(w.now)
	w.want()
	w.advance(sec)
	if !slices.Contains(w.out, "A 1:1 len 1000") {
		t.Fatalf("sent %q", w.out)
	}
	w.out = nil
	w.feed("A", 1, 2001, 0)
	w.want("FPA 2001:1 len 1000")
	w.thaw()
	w.feed("A", 1, 3002, 0)
	w.state(FinWait2)
	w.thaw()
	w.state(FinWait2)
	w.feed("FA", 1, 3002, 0)
	w.want("A 3002:2")
	w.state(TimeWaiting)
}

// thaw has w's connection pass through a Snapshot.
func (w *wire) thaw() {
	w.t.Helper()
	s, err := w.c.Freeze(w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	w.c.Free()
	w.c = Conn{}
	if err := w.c.Thaw(w.h, w, &Config{}, s, w.now); err != nil {
		w.t.Fatal(err)
	}
	w.check()
}

// A snapshot whose data the arena has no frames for is refused, and takes none.
func TestThawNoFrames(t *testing.T) {
	w := dial(t, Config{})
	w.write(500)
	w.want("PA 1:1 len 500")
	s, err := w.c.Freeze(w.now)
	if err != nil {
		t.Fatal(err)
	}
	big := *s
	big.Recv = make([]byte, 4<<20)
	var c Conn
	if err := c.Thaw(w.h, w, &Config{}, &big, w.now); !errors.Is(err, syscall.ENOBUFS) {
		t.Fatal(err)
	}
	w.c.Resume(s)
	w.feed("A", 1, 501, 0)
	w.check()
}
