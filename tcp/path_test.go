package tcp

import (
	"container/heap"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/onload-go/onload/ring"
)

// path is a network for measurements on a virtual clock: flows from left to
// right share one bottleneck with a queue that drops at its tail; all else is
// delay. Nothing allocates in steady state.
type path struct {
	t     testing.TB
	now   int64
	rng   *rand.Rand
	queue pathEvents
	seq   int
	flows []*flow

	rate    float64 // bytes per second; 0: no bottleneck
	buffer  int     // bytes that wait for it
	mark    int     // bytes that wait from which on what is ECN-capable is marked; 0: never
	delay   int64   // one way
	loss    float64 // of data
	every   int     // every so many data packets of a flow one is lost; 0: none
	reorder float64 // of the data packets come late
	late    int64   // by as much at most

	police   float64 // bytes per second that a policer lets pass; 0: none
	bucket   float64 // and at once, bytes
	tokens   float64
	tokensAt int64

	busy int64 // the bottleneck, until then
	buf  []byte
}

const wireOverhead = 14 + 20 // Ethernet, IP

type pathEvent struct {
	at  int64
	seq int
	to  *pathEnd
	d   ring.Desc
	ecn uint8
}

type pathEvents []pathEvent

func (p pathEvents) Len() int { return len(p) }
func (p pathEvents) Less(i, j int) bool {
	return p[i].at < p[j].at || p[i].at == p[j].at && p[i].seq < p[j].seq
}
func (p pathEvents) Swap(i, j int) { p[i], p[j] = p[j], p[i] }
func (p *pathEvents) Push(x any)   { *p = append(*p, x.(pathEvent)) }
func (p *pathEvents) Pop() any     { o := *p; x := o[len(o)-1]; *p = o[:len(o)-1]; return x }

// flow is a connection that sends all it can from its left end.
type flow struct {
	left, right *pathEnd
	start       int64
	got         int  // bytes that arrived
	sent        int  // data packets
	policed     int  // of them
	quiet       bool // nobody writes but the test
	lost        int  // of them
	marked      int
}

type pathEnd struct {
	p    *path
	f    *flow
	h    *Host
	c    Conn
	peer *pathEnd
	data bool // its packets pass the bottleneck
}

// pathHosts are the hosts that measurements share; frames must all come back.
type pathHosts struct{ left, right *Host }

func newPathHosts(t testing.TB, frames int) pathHosts {
	return pathHosts{
		newHost(t, newArena(t, frames, 2048), Caps{MaxFrags: 1}),
		newHost(t, newArena(t, frames, 2048), Caps{MaxFrags: 1}),
	}
}

func newPath(t testing.TB, seed uint64) *path {
	return &path{t: t, now: 1e12, rng: rand.New(rand.NewPCG(seed, 99)), buf: make([]byte, 64<<10)}
}

// add makes a flow that opens after the time given.
func (p *path) add(hs pathHosts, cfg *Config, after int64) *flow {
	f := &flow{start: p.now + after}
	f.left = &pathEnd{p: p, f: f, h: hs.left, data: true}
	f.right = &pathEnd{p: p, f: f, h: hs.right}
	f.left.peer, f.right.peer = f.right, f.left
	f.left.c.Init(hs.left, f.left, cfg, addrA, addrB)
	f.right.c.Init(hs.right, f.right, cfg, addrB, addrA)
	p.flows = append(p.flows, f)
	return f
}

func (e *pathEnd) Notify(Event) {}

func (e *pathEnd) Transmit(pkt []ring.Desc, ecn uint8) bool {
	p := e.p
	n := int(pkt[0].Len)
	at := p.now + p.delay
	if e.data && n > 60 {
		e.f.sent++
		if p.every > 0 && e.f.sent%p.every == 0 || p.loss > 0 && p.rng.Float64() < p.loss {
			e.f.lost++
			return true
		}
		if p.police > 0 {
			p.tokens = min(p.tokens+float64(p.now-p.tokensAt)*p.police/1e9, p.bucket)
			p.tokensAt = p.now
			if p.tokens < float64(n+wireOverhead) {
				e.f.policed++
				return true
			}
			p.tokens -= float64(n + wireOverhead)
		}
		if p.rate > 0 {
			p.busy = max(p.busy, p.now)
			wire := n + wireOverhead
			queue := float64(p.busy-p.now) * p.rate / 1e9
			if queue+float64(wire) > float64(p.buffer) {
				e.f.lost++
				return true
			}
			if p.mark > 0 && queue > float64(p.mark) && ecn != ectNone {
				ecn = ectCE
				e.f.marked++
			}
			p.busy += int64(float64(wire) / p.rate * 1e9)
			at = p.busy + p.delay
		}
		if p.reorder > 0 && p.rng.Float64() < p.reorder {
			at += p.rng.Int64N(p.late + 1)
		}
	}
	f, ok := e.peer.h.Cache.Alloc()
	if !ok {
		p.t.Fatal("no frames")
	}
	copy(e.peer.h.Arena.Bytes(f)[128:], e.h.Arena.Data(pkt[0]))
	p.seq++
	heap.Push(&p.queue, pathEvent{at, p.seq, e.peer, ring.Desc{Frame: f, Off: 128, Len: uint16(n)}, ecn})
	return true
}

func (e *pathEnd) receive(d ring.Desc, ecn uint8) {
	var s Segment
	var ds [1]ring.Desc
	b := e.h.Arena.Data(d)
	n, err := s.Parse(b, len(b))
	if err != nil {
		e.p.t.Fatal(err)
	}
	s.Local, s.Remote, s.ECN = e.c.Local(), e.c.Remote(), ecn
	d.Off, d.Len = d.Off+uint16(n), d.Len-uint16(n)
	ds[0] = d
	s.Payload = ds[:]
	input(&e.c, &s, e.p.now)
	e.work()
}

// work is what application and stack do after a packet.
func (e *pathEnd) work() {
	p := e.p
	if e.data && !e.f.quiet && e.c.State() == Established {
		for e.c.Write(p.buf) == len(p.buf) {
		}
	}
	if !e.data {
		for {
			n, _, update := e.c.Read(p.buf)
			if update {
				e.c.WindowUpdate(p.now)
			}
			if n == 0 {
				break
			}
			e.f.got += n
		}
	}
	e.c.Output(p.now)
}

// run lets d nanoseconds pass.
func (p *path) run(d int64) {
	end := p.now + d
	for {
		at := int64(math.MaxInt64)
		if len(p.queue) > 0 {
			at = p.queue[0].at
		}
		for _, f := range p.flows {
			if f.start != 0 {
				at = min(at, f.start)
			}
			at = min(at, f.left.c.Deadline(), f.right.c.Deadline())
		}
		if at > end {
			p.now = end
			return
		}
		p.now = max(p.now, at)
		for len(p.queue) > 0 && p.queue[0].at <= p.now {
			ev := heap.Pop(&p.queue).(pathEvent)
			ev.to.receive(ev.d, ev.ecn)
		}
		for _, f := range p.flows {
			if f.start != 0 && f.start <= p.now {
				f.start = 0
				f.right.c.listenForTest(p.now)
				f.left.c.Connect(p.now)
			}
			for _, e := range []*pathEnd{f.left, f.right} {
				if e.c.Deadline() <= p.now {
					e.c.Expire(p.now)
					e.work()
				}
			}
		}
	}
}

// close gives every frame back.
func (p *path) close() {
	for _, ev := range p.queue {
		ev.to.h.Cache.Free(ev.d.Frame)
	}
	p.queue = nil
	for _, f := range p.flows {
		f.left.c.Free()
		f.right.c.Free()
	}
}
