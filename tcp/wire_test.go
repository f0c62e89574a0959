package tcp

import (
	"fmt"
	"strings"
	"testing"

	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

// wire is a Conn whose peer is the test: segment in at t, segment out.
// Sequence numbers are relative: ours and the peer's SYN are 0.
type wire struct {
	t    testing.TB
	h    *Host
	c    Conn
	now  int64
	out  []string
	wnds []uint16 // of out
	ev   Event
	full bool // Transmit refuses
	held []ring.Frame
	hold bool // the NIC keeps frames
	tw   *TimeWait
	sums bool // checksums are verified

	iss, peer uint32 // ours and the peer's
	ts        bool
	tsval     uint32 // the peer's clock
	lastTS    uint32 // our TSval, as last seen
	last      Segment
}

const flagLetters = "FSRPAUEW"

const peerISS = 0xfffffff0 // soon wraps

func newWire(t testing.TB, cfg Config) *wire {
	a := newArena(t, 1024, 2048)
	w := &wire{t: t, now: 5e12, peer: peerISS, tsval: 1000}
	w.h = newHost(t, a, Caps{MaxFrags: 1})
	w.c.Init(w.h, w, &cfg, addrA, addrB)
	w.ts = !cfg.NoTimestamps
	t.Cleanup(func() {
		w.c.Free()
		for _, f := range w.held {
			a.Completed(f)
		}
	})
	return w
}

func (w *wire) Notify(ev Event) { w.ev |= ev }

func (w *wire) Transmit(pkt []ring.Desc, ecn uint8) bool {
	if w.full {
		return false
	}
	var b []byte
	for _, d := range pkt {
		b = append(b, w.h.Arena.Data(d)...)
		if w.hold {
			w.h.Arena.Posted(d.Frame)
			w.held = append(w.held, d.Frame)
		}
	}
	if w.sums && ip.Add(ip.PseudoSum(w.c.pair.Local, w.c.pair.Remote, ip.ProtoTCP, len(b)), ip.Sum(b)) != 0xffff {
		w.t.Error("a wrong checksum")
	}
	s := &w.last
	*s = Segment{}
	n, err := s.Parse(b, len(b))
	if err != nil {
		w.t.Fatal(err)
	}
	s.Len = len(b) - n
	if s.Flags.Has(FlagSYN) {
		w.iss = s.Seq
	}
	if s.Opt.HasTS {
		w.lastTS = s.Opt.TSVal
	}
	var o strings.Builder
	for i, l := range flagLetters {
		if s.Flags&(1<<i) != 0 {
			o.WriteRune(l)
		}
	}
	ack := s.Ack - w.peer
	if !s.Flags.Has(FlagACK) {
		ack = 0
	}
	fmt.Fprintf(&o, " %d:%d", s.Seq-w.iss, ack)
	if s.Len > 0 {
		fmt.Fprintf(&o, " len %d", s.Len)
	}
	for i, b := range s.Opt.SACK[:s.Opt.NSACK] {
		if i == 0 {
			o.WriteString(" sack")
		}
		fmt.Fprintf(&o, " %d-%d", b.Start-w.peer, b.End-w.peer)
	}
	if n := s.Opt.FastOpen; n == fastOpenAsk {
		o.WriteString(" fo")
	} else if n != 0 {
		fmt.Fprintf(&o, " fo %s", s.Opt.FastOpenCookie[:n-2])
	}
	if ecn != 0 {
		fmt.Fprintf(&o, " ecn %d", ecn)
	}
	w.out = append(w.out, o.String())
	w.wnds = append(w.wnds, s.Wnd)
	return true
}

// complete returns held frames from the NIC.
func (w *wire) complete() {
	for _, f := range w.held {
		w.h.Arena.Completed(f)
	}
	w.held = nil
}

type opt func(s *Segment)

func ce(s *Segment)      { s.ECN = ectCE }
func wnd(n uint16) opt   { return func(s *Segment) { s.Wnd = n } }
func tsval(v uint32) opt { return func(s *Segment) { s.Opt.TSVal = v } }
func tsecr(v uint32) opt { return func(s *Segment) { s.Opt.TSEcr = v } }
func mss(n uint16) opt   { return func(s *Segment) { s.Opt.MSS = n } }
func wscale(n int8) opt  { return func(s *Segment) { s.Opt.WScale = n } }
func sackOK(on bool) opt { return func(s *Segment) { s.Opt.SACKPermitted = on } }
func tsOK(on bool) opt   { return func(s *Segment) { s.Opt.HasTS = on } }
func (w *wire) sack(edges ...uint32) opt {
	return func(s *Segment) {
		for i := 0; i < len(edges); i += 2 {
			s.Opt.SACK[s.Opt.NSACK] = SACKBlock{Start: w.iss + edges[i], End: w.iss + edges[i+1]}
			s.Opt.NSACK++
		}
	}
}

// in gives the Conn a segment of n bytes, and does not call Output.
func (w *wire) in(flags string, seq, ack uint32, n int, opts ...opt) {
	w.t.Helper()
	var fl Flags
	for _, r := range flags {
		fl |= 1 << strings.IndexRune(flagLetters, r)
	}
	w.tsval++
	s := Segment{Local: addrA, Remote: addrB, Flags: fl, Seq: w.peer + seq, Ack: w.iss + ack, Wnd: 65535, Len: n}
	s.Opt = Options{WScale: -1, HasTS: w.ts, TSVal: w.tsval, TSEcr: w.lastTS}
	for _, o := range opts {
		o(&s)
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = pattern(int(seq) - 1 + i)
	}
	if n > 0 {
		s.Payload = rxFrames(w.t, w.h, b)
	}
	if !w.c.Input(&s, w.now) {
		w.stray(&s)
	}
	w.check()
}

// stray does with a segment for a connection that has ended what a stack does
// that has no listener.
func (w *wire) stray(s *Segment) {
	w.t.Helper()
	f, ok := w.h.Cache.Alloc()
	if !ok {
		w.t.Fatal("no frame for an answer")
	}
	switch {
	case w.c.State() != TimeWaiting:
		w.h.freePayload(s)
		if d, ok := w.h.Reset(s, f); ok {
			w.Transmit([]ring.Desc{d}, 0)
		}
	default:
		if w.tw == nil {
			tw := w.c.TimeWait(w.now)
			w.tw = &tw
		}
		act := w.tw.Input(w.h, s, w.now)
		if act == TWReopen {
			w.t.Fatal("the SYN is for a listener")
		}
		if act == TWAck {
			w.Transmit([]ring.Desc{w.tw.PutAck(w.h, s.Local, s.Remote, f, w.now)}, 0)
		}
	}
	w.h.Cache.Release(f)
}

// feed is in, and the Output that the stack does after its batch.
func (w *wire) feed(flags string, seq, ack uint32, n int, opts ...opt) {
	w.t.Helper()
	w.in(flags, seq, ack, n, opts...)
	w.c.Output(w.now)
	w.check()
}

func (w *wire) check() {
	w.t.Helper()
	if msg := w.c.inconsistent(); msg != "" {
		w.t.Fatal(msg)
	}
}

// want compares what was sent since the last call.
func (w *wire) want(segs ...string) {
	w.t.Helper()
	got := w.out
	w.out, w.wnds = nil, nil
	if strings.Join(got, "; ") != strings.Join(segs, "; ") {
		w.t.Fatalf("sent %q\nwant %q", got, segs)
	}
}

// advance lets time pass, with its timers.
func (w *wire) advance(d int64) {
	end := w.now + d
	for w.c.Deadline() <= end {
		w.now = max(w.now, w.c.Deadline())
		w.c.Expire(w.now)
		w.check()
	}
	w.now = end
}

func (w *wire) write(n int) int {
	b := make([]byte, n)
	k := w.c.Write(b)
	w.c.Output(w.now)
	w.check()
	return k
}

func (w *wire) read(n int) int {
	k, _, update := w.c.Read(make([]byte, n))
	if update {
		w.c.WindowUpdate(w.now)
	}
	return k
}

func (w *wire) state(s State) {
	w.t.Helper()
	if got := w.c.State(); got != s {
		w.t.Fatalf("state %v, want %v", got, s)
	}
}

func (w *wire) err(want error) {
	w.t.Helper()
	if got := w.c.Err(); got != want {
		w.t.Fatalf("error %v, want %v", got, want)
	}
}

// dial opens w actively; opts amend the SYN-ACK. MSS 1000 by default.
func dial(t testing.TB, cfg Config, opts ...opt) *wire {
	t.Helper()
	w := newWire(t, cfg)
	w.c.Connect(w.now)
	w.want("S 0:0")
	w.now += 10 * ms
	w.synAck(opts...)
	w.want("A 1:1")
	w.state(Established)
	w.c.quick = 0 // acknowledgements as in the middle of a connection
	w.c.lastData = w.now
	w.c.rcvMSS = 1000
	return w
}

func (w *wire) synAck(opts ...opt) {
	w.t.Helper()
	w.feed("SA", 0, 1, 0, append([]opt{mss(1000 + tsSize), wscale(0), sackOK(true)}, opts...)...)
}

// synAckAt is synAck for a SYN that carried data.
func (w *wire) synAckAt(ack uint32, opts ...opt) {
	w.t.Helper()
	w.feed("SA", 0, ack, 0, append([]opt{mss(1000 + tsSize), wscale(0), sackOK(true)}, opts...)...)
}
