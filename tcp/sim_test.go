package tcp

import (
	"container/heap"
	"encoding/binary"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

var long = flag.Bool("long", false, "run the long tests in full")

const (
	ms  = int64(1e6)
	sec = int64(1e9)
)

var (
	addrA = netip.MustParseAddrPort("10.0.0.1:1000")
	addrB = netip.MustParseAddrPort("10.0.0.2:2000")
)

// newArena returns an arena whose frames must all be back when the test ends.
func newArena(t testing.TB, frames, size int) *ring.Arena {
	a, err := ring.NewArena(frames, size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if n := a.FreeFrames(); n != frames && !t.Failed() {
			t.Errorf("%d of %d frames leaked", frames-n, frames)
		}
		_ = a.Close()
	})
	return a
}

func newHost(t testing.TB, a *ring.Arena, caps Caps) *Host {
	h := NewHost(a, ring.NewCache(a, 1), caps)
	h.ISNKey, h.TSKey = [16]byte{1}, [16]byte{2} // tests repeat
	t.Cleanup(h.Cache.Flush)
	return h
}

// frames fills fresh frames with b as a device would; the first one gets head
// bytes in front.
func rxFrames(t testing.TB, h *Host, b []byte) []ring.Desc {
	var ds []ring.Desc
	for first := true; first || len(b) > 0; first = false {
		f, ok := h.Cache.Alloc()
		if !ok {
			t.Fatal("no frames to receive into")
		}
		off := 128
		n := copy(h.Arena.Bytes(f)[off:], b)
		ds = append(ds, ring.Desc{Frame: f, Off: uint16(off), Len: uint16(n), Flags: ring.FlagMore})
		b = b[n:]
	}
	ds[len(ds)-1].Flags = 0
	return ds
}

// parse makes a Segment of the TCP packet b, received in frames of h. ok is
// false for a bad checksum.
func parseRx(t testing.TB, h *Host, b []byte, local, remote netip.AddrPort, s *Segment) bool {
	if ip.Add(ip.PseudoSum(remote.Addr(), local.Addr(), ip.ProtoTCP, len(b)), ip.Sum(b)) != 0xffff {
		return false
	}
	*s = Segment{Local: local, Remote: remote}
	n, err := s.Parse(b, len(b))
	if err != nil {
		return false
	}
	s.Payload = rxFrames(t, h, b[n:])
	if len(b) == n {
		h.Cache.Free(s.Payload[0].Frame)
		s.Payload = nil
	}
	return true
}

// input gives s to c, or to nobody where c has ended.
func input(c *Conn, s *Segment, now int64) {
	if !c.Input(s, now) {
		c.h.freePayload(s)
	}
}

// packet is one TCP packet on the simulated link.
type packet struct {
	at  int64
	seq int
	to  *end
	b   []byte
	ecn uint8
}

type packets []packet

func (p packets) Len() int { return len(p) }
func (p packets) Less(i, j int) bool {
	return p[i].at < p[j].at || p[i].at == p[j].at && p[i].seq < p[j].seq
}
func (p packets) Swap(i, j int) { p[i], p[j] = p[j], p[i] }
func (p *packets) Push(x any)   { *p = append(*p, x.(packet)) }
func (p *packets) Pop() any     { o := *p; x := o[len(o)-1]; *p = o[:len(o)-1]; return x }

// link is a simulated network between two ends, on a virtual clock.
type link struct {
	t     testing.TB
	now   int64
	queue packets
	seq   int
	a, b  *end
	rng   *rand.Rand

	delay                           int64
	loss, reorder, dup, corrupt     float64
	refuse                          float64                        // Transmit says false
	mark                            float64                        // of what is ECN-capable gets a congestion mark
	nicHold                         int64                          // time that the NIC keeps frames
	single                          bool                           // what arrives at the same time is not taken in one go
	between                         func()                         // called after each step
	filter                          func(to *end, s *Segment) bool // false: drop
	tap                             func(to *end, b []byte) bool   // likewise, and may insert
	sent, lost, dupped, reorderedBy int
}

// end is a host with one connection.
type end struct {
	l *link

	unchecked int // calls of check since it last looked
	name      string
	h         *Host
	c         Conn
	ev        Event
	evs       map[Event]int
	held      []holding
	local     netip.AddrPort
	remote    netip.AddrPort
	tw        *TimeWait
	lst       *Listener // until a connection is made
	cfg       *Config
	sent      int // packets
	full      bool
}

type holding struct {
	until int64
	f     ring.Frame
}

func newLink(t testing.TB, seed uint64, cfgA, cfgB *Config, caps Caps) *link {
	l := &link{t: t, now: 1e12, rng: rand.New(rand.NewPCG(seed, 1)), delay: 100e3}
	mk := func(name string, cfg *Config, local, remote netip.AddrPort) *end {
		e := &end{l: l, name: name, local: local, remote: remote, evs: map[Event]int{}, cfg: cfg}
		a := newArena(t, 4096, 2048)
		e.h = newHost(t, a, caps)
		e.c.Init(e.h, e, cfg, local, remote)
		t.Cleanup(func() {
			e.c.Free()
			for _, h := range e.held {
				a.Completed(h.f)
			}
			e.held = nil
		})
		return e
	}
	l.a, l.b = mk("a", cfgA, addrA, addrB), mk("b", cfgB, addrB, addrA)
	return l
}

func (e *end) other() *end {
	if e == e.l.a {
		return e.l.b
	}
	return e.l.a
}

func (e *end) Notify(ev Event) {
	e.ev |= ev
	for i := Event(1); i <= EvTimeWait; i <<= 1 {
		if ev&i != 0 {
			e.evs[i]++
		}
	}
	if ev&EvTimeWait != 0 {
		tw := e.c.TimeWait(e.l.now)
		e.tw = &tw
	}
}

func (e *end) Transmit(pkt []ring.Desc, ecn uint8) bool {
	l := e.l
	if e.full || l.refuse > 0 && l.rng.Float64() < l.refuse {
		return false
	}
	if pkt[0].Off < 128 {
		l.t.Fatalf("headroom %d", pkt[0].Off)
	}
	var b []byte
	for i, d := range pkt {
		b = append(b, e.h.Arena.Data(d)...)
		e.h.Arena.Posted(d.Frame)
		e.held = append(e.held, holding{l.now + l.nicHold, d.Frame})
		if (d.Flags&ring.FlagMore != 0) != (i < len(pkt)-1) {
			l.t.Fatal("FlagMore")
		}
	}
	hl := int(b[12]>>4) * 4
	if pkt[0].Flags&ring.FlagGSO != 0 {
		e.segment(b[:hl], b[hl:], int(pkt[0].SegSize), ecn)
		return true
	}
	if len(b)-hl > int(e.c.mss) && e.c.State() >= Established && e.tw == nil {
		l.t.Fatalf("payload %d above MSS %d", len(b)-hl, e.c.mss)
	}
	e.put(b, ecn)
	return true
}

// segment does what TSO does.
func (e *end) segment(hdr, data []byte, size int, ecn uint8) {
	seq := binary.BigEndian.Uint32(hdr[4:])
	for first := true; len(data) > 0; first = false {
		n := min(size, len(data))
		b := append(append([]byte{}, hdr...), data[:n]...)
		binary.BigEndian.PutUint32(b[4:], seq)
		if n < len(data) {
			b[13] &^= byte(FlagFIN | FlagPSH)
		}
		if !first {
			b[13] &^= byte(FlagCWR) // RFC 3168 section 6.1.2
		}
		e.put(e.sum(b), ecn)
		seq += uint32(n)
		data = data[n:]
	}
}

func (e *end) sum(b []byte) []byte {
	b[16], b[17] = 0, 0
	s := ip.Add(ip.PseudoSum(e.local.Addr(), e.remote.Addr(), ip.ProtoTCP, len(b)), ip.Sum(b))
	binary.BigEndian.PutUint16(b[16:], ^s)
	return b
}

func (e *end) put(b []byte, ecn uint8) {
	l := e.l
	l.sent++
	e.sent++
	if e.h.TxCsum {
		b = e.sum(b)
	}
	if l.filter != nil {
		var s Segment
		n, err := s.Parse(b, len(b))
		if err != nil {
			l.t.Fatal(err)
		}
		s.Len = len(b) - n
		if !l.filter(e.other(), &s) {
			l.lost++
			return
		}
	}
	if l.tap != nil && !l.tap(e.other(), b) || l.rng.Float64() < l.loss {
		l.lost++
		return
	}
	if ecn != ectNone && l.rng.Float64() < l.mark {
		ecn = ectCE
	}
	n := 1
	if l.rng.Float64() < l.dup {
		n, l.dupped = 2, l.dupped+1
	}
	for ; n > 0; n-- {
		at := l.now + l.delay
		if l.rng.Float64() < l.reorder {
			at += l.rng.Int64N(l.delay*2 + 1)
			l.reorderedBy++
		}
		c := append([]byte{}, b...)
		if l.rng.Float64() < l.corrupt {
			c[l.rng.IntN(len(c))] ^= 1 << l.rng.IntN(8)
		}
		l.seq++
		heap.Push(&l.queue, packet{at, l.seq, e.other(), c, ecn})
	}
}

func (e *end) receive(b []byte, ecn uint8) {
	var s Segment
	if !parseRx(e.l.t, e.h, b, e.local, e.remote, &s) {
		return
	}
	s.ECN = ecn
	if e.tw != nil {
		act := e.tw.Input(e.h, &s, e.l.now)
		if act == TWAck {
			f, _ := e.h.Cache.Alloc()
			e.Transmit([]ring.Desc{e.tw.PutAck(e.h, e.local, e.remote, f, e.l.now)}, 0)
			e.h.Cache.Release(f)
		}
		return
	}
	if e.lst != nil && e.c.owner == nil {
		e.lst.Input(&s, e.l.now)
		return
	}
	input(&e.c, &s, e.l.now)
	e.check()
}

// The methods of ListenOwner.
func (e *end) Reply(_, _ netip.AddrPort, pkt []ring.Desc, ecn uint8) bool {
	return e.Transmit(pkt, ecn)
}
func (e *end) MTU(_, _ netip.AddrPort) int                { return 0 }
func (e *end) NewConn(_, _ netip.AddrPort) (*Conn, Owner) { return &e.c, e }
func (e *end) Accepted(c *Conn)                           { e.lst.Taken(c) }

// listen makes e a listener.
func (l *link) listen(e *end) {
	e.c = Conn{}
	e.lst = &Listener{}
	e.lst.Init(e.h, e, e.cfg, 10)
	l.t.Cleanup(func() {
		if e.c.owner == nil {
			e.c.Init(e.h, e, e.cfg, e.local, e.remote) // for Free
		}
	})
}

func (e *end) deadline() int64 {
	d := int64(math.MaxInt64)
	if e.tw == nil {
		d = e.c.Deadline()
	}
	if e.lst != nil {
		d = min(d, e.lst.Deadline())
	}
	for _, h := range e.held {
		d = min(d, h.until)
	}
	return d
}

func (e *end) expire() {
	now := e.l.now
	keep := e.held[:0]
	for _, h := range e.held {
		if h.until <= now {
			e.h.Arena.Completed(h.f)
		} else {
			keep = append(keep, h)
		}
	}
	e.held = keep
	if e.lst != nil && e.lst.Deadline() <= now {
		e.lst.Expire(now)
	}
	if e.c.Deadline() <= now {
		e.c.Expire(now)
		e.check()
	}
}

// step moves to the next event, at most to limit; false: there is none.
func (l *link) step(limit int64) bool {
	at := min(l.a.deadline(), l.b.deadline())
	if len(l.queue) > 0 {
		at = min(at, l.queue[0].at)
	}
	if at > limit {
		l.now = limit
		return false
	}
	l.now = max(l.now, at)
	for len(l.queue) > 0 && l.queue[0].at <= l.now {
		p := heap.Pop(&l.queue).(packet)
		p.to.receive(p.b, p.ecn)
		if l.single {
			break
		}
	}
	if l.between != nil {
		l.between()
	}
	for _, e := range []*end{l.a, l.b} {
		e.expire()
		if e.c.owner == nil {
			continue
		}
		if e.c.Output(l.now) {
			// The ring is full: again in a moment, as the stack does.
			l.again(e)
		}
		e.check()
	}
	return true
}

// again calls Output until the ring had room.
func (l *link) again(e *end) {
	for i := 0; e.c.Output(l.now); i++ {
		if e.full || i > 1000 {
			return
		}
	}
}

// run goes on for d, or until cond holds.
func (l *link) run(d int64, cond func() bool) bool {
	limit := l.now + d
	for steps := 0; ; steps++ {
		if cond != nil && cond() {
			return true
		}
		if !l.step(limit) {
			return cond != nil && cond()
		}
		if steps > 5e6 {
			l.t.Fatalf("no end: a %+v\nb %+v", l.a.c.Info(l.now), l.b.c.Info(l.now))
		}
	}
}

// connect does the handshake: a actively; b as a listener would.
func (l *link) connect() {
	l.t.Helper()
	filter := l.filter
	l.filter = nil
	l.passive(l.b)
	l.a.c.Connect(l.now)
	if !l.run(300*sec, func() bool { return l.a.c.State() == Established && l.b.c.State() == Established }) {
		l.t.Fatalf("not connected: %v %v", l.a.c.State(), l.b.c.State())
	}
	l.filter = filter
}

// passive lets e become connected by the SYN that comes first: simultaneous
// open has the same segments from there on.
func (l *link) passive(e *end) {
	e.c.listenForTest(l.now)
}

// listenForTest makes c answer the first SYN: it is what Listener and Passive
// do in two steps.
func (c *Conn) listenForTest(now int64) {
	c.start(c.h.ISN(c.Local(), c.Remote(), now))
	c.rcvAdv = min(c.rcvLimit.Load(), 0xffff)
	c.setState(SynSent)
	c.stuckAt = now
}

// check verifies the accounts of a connection against its lists; of one that
// has many frames queued, each of which is looked at, now and then.
func (e *end) check() {
	if e.c.owner == nil {
		return
	}
	frames, _ := e.c.sndUsed.load()
	if e.unchecked += 1; e.unchecked < frames/64 {
		return
	}
	e.unchecked = 0
	if msg := e.c.inconsistent(); msg != "" {
		e.l.t.Fatalf("%s at %d: %s\n%+v", e.name, e.l.now, msg, e.c.Info(e.l.now))
	}
}

// inconsistent recomputes from the lists what Conn keeps counts of.
func (c *Conn) inconsistent() string {
	a := c.h.Arena
	var sacked, lost, retrans uint32
	timed, n, sent := 0, 0, true
	seq, prev := c.sndUna, ring.NoFrame
	if st := c.State(); st == SynSent || st == SynReceived {
		seq = c.sndUna + 1
	}
	bytes := 0
	for f := c.sndHead; f != ring.NoFrame; f = a.Meta(f).Next {
		m := a.Meta(f)
		if f == c.sndNext {
			sent = false
			if m.Seq != c.sndNxt {
				return fmt.Sprintf("next unsent frame has sequence number %d, SND.NXT is %d", m.Seq, c.sndNxt)
			}
		}
		if m.Prev != prev || m.Seq != seq {
			return fmt.Sprintf("frame %d: prev %d want %d, seq %d want %d", f, m.Prev, prev, m.Seq, seq)
		}
		k := frameLen(m)
		if m.Flags&frameFIN == 0 {
			n++
			bytes += int(k)
			if got := c.h.sum(a.Bytes(f)[m.Off : m.Off+m.Len]); m.Flags&frameUnsummed == 0 && got != m.Sum && got+m.Sum != 0xffff {
				return fmt.Sprintf("frame %d: sum %#x, want %#x", f, m.Sum, got)
			}
		}
		if m.Flags&frameSacked != 0 {
			sacked += k
		}
		if m.Flags&frameLost != 0 {
			lost += k
		}
		if m.Flags&frameRetrans != 0 {
			retrans += k
			if m.Flags&frameLost == 0 {
				return "retransmitted and not lost"
			}
		}
		if m.Flags&frameTimed != 0 {
			timed++
		}
		want := sent && m.Flags&frameSacked == 0 && m.Flags&(frameLost|frameRetrans) != frameLost
		if want != (m.Flags&frameTimed != 0) {
			return fmt.Sprintf("frame %d of flags %#x, sent %v: on the time list %v", f, m.Flags, sent, !want)
		}
		if m.Flags&(frameLost|frameRetrans) == frameLost && c.lostHint != ring.NoFrame &&
			c.lostHint != c.sndNext && seqLT(m.Seq, a.Meta(c.lostHint).Seq) {
			return "a lost frame lies before the hint"
		}
		seq += k
		prev = f
	}
	if prev != c.sndTail {
		return "tail"
	}
	if sacked != c.sacked || lost != c.lost || retrans != c.retrans {
		return fmt.Sprintf("sacked %d want %d, lost %d want %d, retrans %d want %d", c.sacked, sacked, c.lost, lost, c.retrans, retrans)
	}
	last := int64(0)
	for f := c.timeHead; f != ring.NoFrame; f = a.Meta(f).TimeNext {
		timed--
		if m := a.Meta(f); m.SentAt < last {
			return "time list out of order"
		} else {
			last = m.SentAt
		}
	}
	if timed != 0 {
		return fmt.Sprintf("time list: %d too few", timed)
	}
	if c.pipe() < 0 {
		return fmt.Sprintf("pipe %d", c.pipe())
	}
	if c.sndBox.Empty() {
		if fr, by := c.sndUsed.load(); fr != n || by != bytes {
			return fmt.Sprintf("send usage %d frames %d bytes, want %d %d", fr, by, n, bytes)
		}
	}
	return ""
}
