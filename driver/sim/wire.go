package sim

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/steer"
	"github.com/onload-go/onload/ring"
)

// packet is a packet on the wire. Its buffer goes back to the queue that sent it
// once the other has received it.
type packet struct {
	buf   []byte
	due   int64 // when it arrives; 0: at once
	seq   uint64
	home  *lane
	flags ring.DescFlags // of the whole packet, without FlagMore

	csumStart, csumOff, segSize, netOff, hdrLen uint16 // as in ring.Desc
}

// lane leads from one queue of the sender to one of the receiver.
type lane struct {
	fwd, back *ring.SPSC[*packet]
}

func newLane(n int) *lane {
	return &lane{fwd: ring.NewSPSC[*packet](n), back: ring.NewSPSC[*packet](n)}
}

// LinkStats counts what the link did to the packets that a Device sent.
type LinkStats struct {
	Packets    uint64 // that left the NIC
	Lost       uint64 // by Loss and Drop
	Duplicated uint64
	Corrupted  uint64
	Reordered  uint64
	Marked     uint64 // congestion experienced
	QueueFull  uint64 // by the bottleneck's queue
	TooBig     uint64 // by MTU
	Down       uint64 // by the link being down
	Unmatched  uint64 // not ours by the peer's steering
}

// direction is the state of one direction of the link.
type direction struct {
	dir    Dir
	clock  func() int64
	faulty atomic.Bool
	down   *atomic.Bool

	mu        sync.Mutex
	f         Faults
	rng       *rand.Rand
	n         uint64
	timed     bool  // packets carry their time of arrival; for good, so that none overtakes
	lastDue   int64 // of packets that keep their order
	busyUntil int64 // of the bottleneck
	queue     []departure
	queued    int // bytes

	lost, duplicated, corrupted, reordered, marked, queueFull, tooBig, downed, unmatched atomic.Uint64
}

// departure is a packet in the bottleneck's queue.
type departure struct {
	at    int64
	bytes int
}

func newDirection(d Dir, f Faults, l *LinkConfig, down *atomic.Bool) *direction {
	w := &direction{dir: d, clock: l.Clock, down: down, rng: rand.New(rand.NewPCG(l.Seed, uint64(d)))}
	w.set(f)
	return w
}

func (w *direction) set(f Faults) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.f = f
	w.timed = w.timed || f.Delay > 0 || f.Jitter > 0 || f.Rate > 0 || f.Reorder > 0
	w.faulty.Store(w.timed || f.active())
}

func (w *direction) stats() LinkStats {
	return LinkStats{
		Lost: w.lost.Load(), Duplicated: w.duplicated.Load(),
		Corrupted: w.corrupted.Load(), Reordered: w.reordered.Load(), Marked: w.marked.Load(),
		QueueFull: w.queueFull.Load(), TooBig: w.tooBig.Load(), Down: w.downed.Load(), Unmatched: w.unmatched.Load(),
	}
}

// chance draws a random number only for a fault that is on: others would shift
// the sequence.
func (w *direction) chance(p float64) bool { return p > 0 && w.rng.Float64() < p }

// apply applies the faults to p. It reports whether p arrives, and whether it
// arrives twice.
func (w *direction) apply(p *packet) (arrives, twice bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := &w.f
	now := w.clock()
	n := w.n
	w.n++
	if f.Drop != nil && f.Drop(n, p.buf) || w.chance(f.Loss) {
		w.lost.Add(1)
		return false, false
	}
	if f.MTU > 0 && wireSize(p) > f.MTU {
		w.tooBig.Add(1)
		return false, false
	}
	at := now
	if f.Rate > 0 {
		var ok bool
		if at, ok = w.enqueue(p, now); !ok {
			w.queueFull.Add(1)
			return false, false
		}
	}
	at += int64(f.Delay)
	if f.Jitter > 0 {
		at += w.rng.Int64N(int64(f.Jitter) + 1)
	}
	if w.chance(f.Reorder) {
		at = max(at, w.lastDue) + int64(f.ReorderDelay)
		w.reordered.Add(1)
	} else {
		at = max(at, w.lastDue)
		w.lastDue = at
	}
	if w.chance(f.Corrupt) {
		w.corrupt(p)
	}
	if w.timed {
		p.due = max(at, 1)
	}
	p.seq = n
	if w.chance(f.Duplicate) {
		w.duplicated.Add(1)
		return true, true
	}
	return true, false
}

// enqueue passes p through the bottleneck. Its last bit leaves at at.
func (w *direction) enqueue(p *packet, now int64) (at int64, ok bool) {
	f := &w.f
	gone := 0
	for gone < len(w.queue) && w.queue[gone].at <= now {
		w.queued -= w.queue[gone].bytes
		gone++
	}
	w.queue = w.queue[:copy(w.queue, w.queue[gone:])]
	if f.QueuePackets > 0 && len(w.queue) >= f.QueuePackets ||
		f.QueueBytes > 0 && w.queued+len(p.buf) > f.QueueBytes {
		return 0, false
	}
	if f.MarkBytes > 0 && w.queued > f.MarkBytes && markCE(p.buf) {
		w.marked.Add(1)
	}
	w.busyUntil = max(w.busyUntil, now) + int64(float64(len(p.buf))*8e9/float64(f.Rate))
	w.queue = append(w.queue, departure{w.busyUntil, len(p.buf)})
	w.queued += len(p.buf)
	return w.busyUntil, true
}

// corrupt flips one to four bits. It completes a partial checksum first, since a
// wire that corrupts packets carries no promises about them.
func (w *direction) corrupt(p *packet) {
	const eth = 14
	if len(p.buf) <= eth {
		return
	}
	finish(p)
	p.flags &^= ring.FlagCsumGood
	for range 1 + w.rng.IntN(4) {
		bit := w.rng.IntN((len(p.buf) - eth) * 8)
		p.buf[eth+bit/8] ^= 1 << (bit % 8)
	}
	w.corrupted.Add(1)
}

// emit puts a packet on the wire, cut to the size that the receiver takes.
func (q *Queue) emit(p *packet) {
	w := q.dev.out
	q.txPackets.Add(1)
	q.txBytes.Add(uint64(len(p.buf)))
	if tap := q.dev.tap; tap != nil {
		tap(w.dir, p.buf)
	}
	if w.down.Load() {
		w.downed.Add(1)
		q.put(p)
		return
	}
	p.due, p.seq = 0, 0
	if !w.faulty.Load() {
		q.arrive(p)
		return
	}
	arrives, twice := w.apply(p)
	if !arrives {
		q.put(p)
		return
	}
	if twice {
		d := q.get(len(p.buf))
		buf := d.buf
		*d = *p
		d.buf = buf
		copy(d.buf, p.buf)
		q.arrive(d)
	}
	q.arrive(p)
}

// txFlags are the flags that matter only to the sender's device.
const txFlags = ring.FlagV6 | ring.FlagCWR

// arrive steers p to a queue of the peer.
func (q *Queue) arrive(p *packet) {
	peer := q.dev.peer
	var h steer.Headers
	parsed := false
	if !peer.cfg.TakeAll || len(peer.queues) > 1 || peer.cfg.RxInfo {
		parsed = h.Parse(p.buf, len(p.buf))
	}
	if peer.cfg.MTU < wireSize(p) {
		q.dev.out.tooBig.Add(1)
		q.put(p)
		return
	}
	if !peer.cfg.TakeAll && !(parsed && peer.Ours(p.buf, &h)) {
		q.dev.out.unmatched.Add(1)
		if peer.cfg.Unmatched != nil {
			peer.cfg.Unmatched(p.buf)
		}
		q.put(p)
		return
	}
	i := 0
	if parsed && len(peer.queues) > 1 {
		i = driver.RSSQueue(peer.caps.RSSTable, rss(peer.rss, &h))
	}
	if peer.cfg.RxInfo {
		p.flags &^= txFlags
		if parsed && p.flags&ring.FlagCsumPartial == 0 && verify(p.buf, &h) {
			p.flags |= ring.FlagCsumGood
		}
	} else {
		// The receiver does not learn how the packet was sent.
		p.flags, p.segSize = 0, 0
	}
	q.push(p, i)
}

// push puts p on the lane to queue i of the peer.
func (q *Queue) push(p *packet, i int) {
	due := p.due
	p.home = q.lanes[i]
	dst := q.dev.peer.queues[i]
	if !p.home.fwd.Push(p) {
		dst.rxDropped.Add(1)
		q.put(p)
		return
	}
	dst.lower(due)
	q.touched |= 1 << i
}

// get returns a packet with a buffer of n bytes.
func (q *Queue) get(n int) *packet {
	p := q.spare()
	if cap(p.buf) < n {
		p.buf = make([]byte, max(n, 2048))
	}
	p.buf = p.buf[:n]
	p.due, p.seq, p.home, p.flags = 0, 0, nil, 0
	p.csumStart, p.csumOff, p.segSize, p.netOff, p.hdrLen = 0, 0, 0, 0, 0
	return p
}

// spare returns a packet that is not under way, if possible the one used last: it
// is in the cache.
func (q *Queue) spare() *packet {
	if k := len(q.pool); k > 0 {
		p := q.pool[k-1]
		q.pool = q.pool[:k-1]
		return p
	}
	for _, l := range q.lanes {
		last, ok := l.back.Pop()
		if !ok {
			continue
		}
		for p, ok := l.back.Pop(); ok; p, ok = l.back.Pop() {
			q.pool = append(q.pool, last)
			last = p
		}
		return last
	}
	return new(packet)
}

// put takes back a packet that was not sent.
func (q *Queue) put(p *packet) { q.pool = append(q.pool, p) }
