package sim

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ring"
)

// never is when nothing is due.
const never = math.MaxInt64

// completion is a frame that the NIC gives back at a time.
type completion struct {
	frame ring.Frame
	at    int64
}

// Queue is one queue of a Device; it implements driver.Queue.
type Queue struct {
	dev   *Device
	index int

	// Transmit side, under the lock of the queue's owner.
	tx      fifo[ring.Desc]
	comps   fifo[completion]
	lanes   []*lane // to each of the peer's queues
	pool    []*packet
	touched uint64 // queues of the peer that this Kick gave packets
	through bool   // all packets go to the peer's one queue as they are
	emitFn  func(*packet)

	// Receive side, likewise.
	in   []*lane // from each of the peer's queues, and from Inject
	rx   fifo[ring.Desc]
	fill []ring.Frame
	wait dueHeap

	// What RxPending looks at. nextDue is when the first packet arrives that
	// is not in rx yet.
	_       [64]byte
	ready   atomic.Int32
	nextDue atomic.Int64
	_       [64]byte

	armed     atomic.Bool
	call      func()      // of OnArrival; set before armed
	edges     atomic.Bool // EdgeFD was asked for
	edgeFD    int
	wakeMu    sync.Mutex
	fd        int
	closed    bool
	signalled bool
	event     [8]byte // what settle reads
	timer     *time.Timer
	timerAt   int64

	injectMu sync.Mutex
	injected *lane
	broken   atomic.Pointer[error]

	rxPackets, rxBytes, txPackets, txBytes, kicks, kickErrors atomic.Uint64
	rxDropped, rxFillEmpty, txInvalid, txFull, txNone         atomic.Uint64
	wakeups, badDesc                                          atomic.Uint64
}

var _ driver.Queue = (*Queue)(nil)

func newQueue(d *Device, i, fd int) *Queue {
	q := &Queue{
		dev: d, index: i, fd: fd, edgeFD: -1,
		tx:    newFIFO[ring.Desc](d.cfg.TxRing),
		comps: newFIFO[completion](d.cfg.TxRing),
		rx:    newFIFO[ring.Desc](d.cfg.RxRing),
		fill:  make([]ring.Frame, 0, d.cfg.RxRing),
	}
	q.emitFn = q.emit
	q.nextDue.Store(never)
	return q
}

// fifo is a bounded queue for one owner.
type fifo[T any] struct {
	buf     []T
	head, n int
}

func newFIFO[T any](n int) fifo[T] { return fifo[T]{buf: make([]T, n)} }

func (f *fifo[T]) space() int { return len(f.buf) - f.n }

func (f *fifo[T]) at(i int) *T {
	i += f.head
	if i >= len(f.buf) {
		i -= len(f.buf)
	}
	return &f.buf[i]
}

// slot adds a value that the caller fills in.
func (f *fifo[T]) slot() *T {
	f.n++
	return f.at(f.n - 1)
}

func (f *fifo[T]) push(v T) { *f.slot() = v }

func (f *fifo[T]) drop(n int) {
	if f.head += n; f.head >= len(f.buf) {
		f.head -= len(f.buf)
	}
	f.n -= n
}

// RxBatch implements driver.Queue.
func (q *Queue) RxBatch(ds []ring.Desc) int {
	if q.broken.Load() != nil {
		return 0
	}
	n := 0
	if q.rx.n == 0 && len(q.wait) == 0 {
		n = q.absorb(ds) // past the ring
	} else {
		q.absorb(nil)
	}
	if q.edges.Load() {
		q.schedule(q.nextDue.Load())
	}
	if n == 0 && q.rx.n > 0 {
		n = q.take(ds)
	}
	if k := int32(q.rx.n); k != q.ready.Load() {
		q.ready.Store(k)
	}
	return n
}

// take moves whole packets from the ring to ds.
func (q *Queue) take(ds []ring.Desc) (n int) {
	for n < q.rx.n {
		k := 1
		for q.rx.at(n+k-1).Flags&ring.FlagMore != 0 {
			k++
		}
		if n+k > len(ds) {
			break
		}
		for range k {
			ds[n] = *q.rx.at(n)
			n++
		}
	}
	q.rx.drop(n)
	return n
}

// absorb does the NIC's part: it moves packets that have arrived by now into
// frames. The first of them go to ds while nothing else is on the ring, and count
// like those of the ring; n is how many.
func (q *Queue) absorb(ds []ring.Desc) (n int) {
	if q.nextDue.Load() == never {
		return 0
	}
	// A packet that is sent from here on lowers it again. Packets sent before are
	// in the lanes already.
	q.nextDue.Store(never)
	var packets, bytes uint64
	for _, l := range q.in {
		for k := l.fwd.Len(); k > 0; k-- {
			p, ok := l.fwd.Pop()
			switch {
			case !ok:
			case p.due != 0:
				q.wait.push(p)
			case n < len(ds) && q.rx.n == 0 && q.direct(p, n, &ds[n]):
				n++
				packets++
				bytes += uint64(len(p.buf))
				l.back.Push(p) // if full: the garbage collector's
			default:
				q.receive(p, n)
			}
		}
	}
	if packets > 0 {
		q.rxPackets.Add(packets)
		q.rxBytes.Add(bytes)
	}
	if len(q.wait) > 0 {
		now := q.dev.clock()
		for len(q.wait) > 0 && q.wait[0].due <= now {
			q.receive(q.wait.pop(), n)
		}
		if len(q.wait) > 0 {
			q.lower(q.wait[0].due)
		}
	}
	return n
}

// direct receives a packet of one frame into d. It returns false if the packet does
// not fit, or if there is no room beside the given number of Descs, which are on
// their way to the same reader.
func (q *Queue) direct(p *packet, given int, d *ring.Desc) bool {
	headroom, k := q.dev.cfg.RxHeadroom, len(q.fill)-1
	if k < 0 || given >= len(q.rx.buf) || len(p.buf) > q.dev.cfg.FrameSize-headroom {
		return false
	}
	d.Frame, q.fill = q.fill[k], q.fill[:k]
	n := copy(q.dev.arena.Bytes(d.Frame)[headroom:], p.buf)
	d.Off, d.Len, d.Flags = uint16(headroom), uint16(n), p.flags
	d.CsumStart, d.CsumOff, d.SegSize, d.NetOff, d.HdrLen = p.csumStart, p.csumOff, p.segSize, 0, 0
	return true
}

// lower notes that a packet is due at t.
func (q *Queue) lower(t int64) {
	for {
		old := q.nextDue.Load()
		if old <= t || q.nextDue.CompareAndSwap(old, t) {
			return
		}
	}
}

// receive copies a packet into frames, or drops it as a NIC does. The given Descs
// are on their way to the reader, and count as on the ring.
func (q *Queue) receive(p *packet, given int) {
	a, headroom := q.dev.arena, q.dev.cfg.RxHeadroom
	room := q.dev.cfg.FrameSize - headroom
	need := (len(p.buf) + room - 1) / room
	switch {
	case q.rx.space()-given < need:
		q.rxDropped.Add(1)
	case len(q.fill) < need:
		q.rxFillEmpty.Add(1)
	default:
		q.rxPackets.Add(1)
		q.rxBytes.Add(uint64(len(p.buf)))
		d := ring.Desc{Flags: p.flags, CsumStart: p.csumStart, CsumOff: p.csumOff, SegSize: p.segSize}
		for b := p.buf; len(b) > 0; {
			k := len(q.fill) - 1
			d.Frame, q.fill = q.fill[k], q.fill[:k]
			n := copy(a.Bytes(d.Frame)[headroom:], b)
			d.Off, d.Len = uint16(headroom), uint16(n)
			if b = b[n:]; len(b) > 0 {
				d.Flags |= ring.FlagMore
			} else {
				d.Flags &^= ring.FlagMore
			}
			q.rx.push(d)
			d = ring.Desc{}
		}
	}
	p.home.back.Push(p) // full: the collector's
}

// Refill implements driver.Queue. A frame with a received packet that RxBatch has
// not given yet counts as lent, so that each one that it gives wants one back.
func (q *Queue) Refill() {
	n := len(q.fill)
	q.fill = q.fill[:n+q.dev.arena.AllocN(q.fill[n:n+q.Lacks()])]
}

// Lacks implements driver.Queue.
func (q *Queue) Lacks() int {
	if q.broken.Load() != nil {
		return 0
	}
	return max(cap(q.fill)-q.rx.n-len(q.fill), 0)
}

// TxSpace implements driver.Queue.
func (q *Queue) TxSpace() int {
	if q.broken.Load() != nil {
		return 0
	}
	return q.tx.space() - q.comps.n
}

// TxBatch implements driver.Queue.
func (q *Queue) TxBatch(ds []ring.Desc) int {
	n := 0
	space := q.TxSpace()
	if len(ds) == 1 && space > 0 && ds[0].Flags&ring.FlagMore == 0 {
		q.post(&ds[0])
		return 1
	}
	for n < len(ds) {
		k, _ := ring.PacketLen(ds[n:])
		if ds[n+k-1].Flags&ring.FlagMore != 0 {
			q.txInvalid.Add(1) // its end is missing
			return n + k
		}
		if n+k > space {
			q.txFull.Add(1)
			break
		}
		for i := range k {
			q.post(&ds[n+i])
		}
		n += k
	}
	return n
}

// post puts d on the transmit ring. Its fields were just written: a copy of the
// whole would read several of them at once, for which a processor waits until
// they have left its store buffer.
func (q *Queue) post(d *ring.Desc) {
	q.dev.arena.Posted(d.Frame)
	t := q.tx.slot()
	t.Frame, t.Off, t.Len, t.Flags = d.Frame, d.Off, d.Len, d.Flags
	t.CsumStart, t.CsumOff, t.SegSize, t.NetOff, t.HdrLen = d.CsumStart, d.CsumOff, d.SegSize, d.NetOff, d.HdrLen
}

// Kick implements driver.Queue.
func (q *Queue) Kick() error {
	q.kicks.Add(1)
	if err := q.Err(); err != nil {
		q.kickErrors.Add(1)
		return err
	}
	if q.tx.n == 0 {
		q.txNone.Add(1)
		return nil
	}
	at := int64(0)
	if q.dev.cfg.CompletionDelay > 0 {
		at = q.dev.clock() + int64(q.dev.cfg.CompletionDelay)
	}
	for q.tx.n > 0 {
		if q.through && q.pass(q.tx.at(0)) {
			q.comps.push(completion{q.tx.at(0).Frame, at})
			q.tx.drop(1)
			continue
		}
		p, k := q.gather()
		for i := range k {
			q.comps.push(completion{q.tx.at(i).Frame, at})
		}
		q.tx.drop(k)
		if p == nil {
			q.txInvalid.Add(1)
			continue
		}
		q.launch(p)
	}
	for i, dst := range q.dev.peer.queues {
		if q.touched&(1<<i) != 0 {
			dst.notify()
		}
	}
	q.touched = 0
	return nil
}

// pass sends a packet for which there is nothing to decide: one frame, no
// offload, no fault on the way, and q.through. It returns false for other
// packets.
func (q *Queue) pass(d *ring.Desc) bool {
	w, n := q.dev.out, int(d.Len)
	if d.Flags != 0 || n < 14 || n > 14+q.dev.cfg.MTU || int(d.Off)+n > q.dev.cfg.FrameSize ||
		w.faulty.Load() || w.down.Load() {
		return false
	}
	p := q.get(n)
	copy(p.buf, q.dev.arena.Bytes(d.Frame)[d.Off:])
	q.txPackets.Add(1)
	q.txBytes.Add(uint64(n))
	q.push(p, 0)
	return true
}

// gather copies the packet at the head of the ring out of its k frames; it is
// nil when no NIC would send it.
func (q *Queue) gather() (p *packet, k int) {
	cfg := &q.dev.cfg
	first := *q.tx.at(0)
	total, ok := 0, true
	for more := true; more; k++ {
		d := q.tx.at(k)
		total += int(d.Len)
		ok = ok && d.Len > 0 && int(d.Off)+int(d.Len) <= cfg.FrameSize
		more = d.Flags&ring.FlagMore != 0
	}
	if !ok || k > cfg.maxFrags(first.Flags) || total < 14 {
		return nil, k
	}
	p = q.get(total)
	at := 0
	for i := range k {
		at += copy(p.buf[at:], q.dev.arena.Data(*q.tx.at(i)))
	}
	p.flags = first.Flags & (ring.FlagCsumPartial | ring.FlagGSO | txFlags)
	p.csumStart, p.csumOff, p.segSize = first.CsumStart, first.CsumOff, first.SegSize
	p.netOff, p.hdrLen = first.NetOff, first.HdrLen
	switch {
	case p.flags&ring.FlagGSO != 0:
		ok = segmentable(p) && total-int(p.netOff) <= cfg.TSO
	case p.flags&ring.FlagCsumPartial != 0:
		ok = cfg.TxCsum && int(p.csumStart)+int(p.csumOff)+2 <= total
	}
	if !ok || wireSize(p) > cfg.MTU {
		q.put(p)
		return nil, k
	}
	return p, k
}

// launch segments p and completes its checksum where the receiver wants that.
func (q *Queue) launch(p *packet) {
	peer := &q.dev.peer.cfg
	if p.flags&ring.FlagGSO != 0 && !peer.LargeRx {
		q.segment(p, q.emitFn)
		q.put(p)
		return
	}
	if !peer.Virtual {
		finish(p)
	}
	q.emit(p)
}

// Reclaim implements driver.Queue.
func (q *Queue) Reclaim() int {
	if q.comps.n == 0 || q.broken.Load() != nil {
		return 0
	}
	now := int64(0)
	if q.dev.cfg.CompletionDelay > 0 {
		now = q.dev.clock()
	}
	n := 0
	for ; n < q.comps.n && q.comps.at(n).at <= now; n++ {
		if !q.dev.arena.Completed(q.comps.at(n).frame) {
			q.badDesc.Add(1)
		}
	}
	q.comps.drop(n)
	return n
}

// RxPending implements driver.Queue.
func (q *Queue) RxPending() bool {
	if q.broken.Load() != nil {
		return false
	}
	if q.ready.Load() > 0 {
		return true
	}
	t := q.nextDue.Load()
	return t == 0 || t != never && t <= q.dev.clock()
}

// Err implements driver.Queue.
func (q *Queue) Err() error {
	if p := q.broken.Load(); p != nil {
		return *p
	}
	return nil
}

// Caps implements driver.Queue.
func (q *Queue) Caps() *driver.Caps { return &q.dev.caps }

// Stats implements driver.Queue.
func (q *Queue) Stats() driver.Stats {
	return driver.Stats{
		RxPackets: q.rxPackets.Load(), RxBytes: q.rxBytes.Load(),
		TxPackets: q.txPackets.Load(), TxBytes: q.txBytes.Load(),
		Kicks: q.kicks.Load(), KickErrors: q.kickErrors.Load(),
		RxDropped: q.rxDropped.Load(), RxFillEmpty: q.rxFillEmpty.Load(),
		TxInvalid: q.txInvalid.Load(), TxRingFull: q.txFull.Load(), TxRingNone: q.txNone.Load(),
		BadDesc: q.badDesc.Load(),
	}
}

// dueHeap holds packets that are on the way, the first to arrive on top.
type dueHeap []*packet

func (h dueHeap) less(i, j int) bool {
	return h[i].due < h[j].due || h[i].due == h[j].due && h[i].seq < h[j].seq
}

func (h *dueHeap) push(p *packet) {
	*h = append(*h, p)
	s := *h
	for i := len(s) - 1; i > 0; {
		up := (i - 1) / 2
		if !s.less(i, up) {
			break
		}
		s[i], s[up] = s[up], s[i]
		i = up
	}
}

func (h *dueHeap) pop() *packet {
	s := *h
	top, last := s[0], len(s)-1
	s[0], s[last] = s[last], nil
	s = s[:last]
	for i := 0; ; {
		c := 2*i + 1
		if c >= last {
			break
		}
		if c+1 < last && s.less(c+1, c) {
			c++
		}
		if !s.less(c, i) {
			break
		}
		s[i], s[c] = s[c], s[i]
		i = c
	}
	*h = s
	return top
}
