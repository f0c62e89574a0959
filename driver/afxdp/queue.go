package afxdp

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ring"
)

// Queue is one queue of the interface and its AF_XDP socket. It implements
// driver.Queue.
type Queue struct {
	dev   *Device // keeps the program attached while the queue is in use
	id    int     // of the NIC
	arena *ring.Arena
	caps  *driver.Caps

	// RxPending reads these without the lock.
	seen atomic.Uint32 // consumer index of the receive ring
	dead atomic.Bool
	rx   kring[unix.XDPDesc]

	// owner is, for each frame, the tag of the queue whose fill ring it went
	// into, 0 for none. Entries move with the frames, so the queues share it.
	owner []uint16
	tag   uint16

	fill     kring[uint64]
	fillProd uint32
	lent     int          // frames that the kernel has for receiving
	target   int          // how many it should have
	most     atomic.Int32 // how many it may have
	calm     int          // Descs received since many waited at once
	batch    [64]ring.Frame

	tx       kring[unix.XDPDesc]
	txSize   int
	txProd   uint32
	posted   int // Descs not yet completed
	maxFrags int
	txMeta   int // bytes that the kernel reads in front of each packet
	comp     kring[uint64]
	compCons uint32

	fd       int         // receives
	txFD     int         // transmits; -1: nothing does
	lane     *lane       // nil: the device segments nothing
	qdisc    *lane       // through the link's queueing discipline; nil: not possible
	ruled    atomic.Bool // all packets take it
	zc       bool
	napi     uint32 // the instance that polls the queue, 0: none
	busyPoll bool   // RxBatch has it polled

	ep       int // WaitFD
	armed    bool
	arms     uint
	watched  bool // ep holds the socket
	unwanted int  // Descs received since the last Disarm, where watched
	ev       unix.EpollEvent

	gsoLen int // packets longer than this are GSO; 0: there are none
	stats  stats
	err    atomic.Pointer[error]

	fdMu sync.Mutex // keeps fd open for Stats
	last unix.XDPStatistics
}

var _ driver.Queue = (*Queue)(nil)

// stats are written under the stack lock and read without.
type stats struct {
	rxPackets, rxBytes, txPackets, txBytes atomic.Uint64
	kicks, kickErrors, kickNone            atomic.Uint64
	txRefused, txInvalid, badDesc          atomic.Uint64
}

// ID is the number of the queue on the interface.
func (q *Queue) ID() int { return q.id }

// RxBatch implements driver.Queue. ds should hold at least 32: a 64 KiB packet
// takes 18, and a packet that does not fit into ds as a whole waits forever.
func (q *Queue) RxBatch(ds []ring.Desc) int {
	if q.dead.Load() {
		return 0
	}
	cons := q.seen.Load()
	avail := int(atomic.LoadUint32(q.rx.prod) - cons)
	if avail == 0 {
		if q.busyPoll {
			recvKick(q.fd)
		}
		return 0
	}
	if avail > len(q.rx.slots) {
		q.corrupt("receive ring holds %d of %d", avail, len(q.rx.slots))
		return 0
	}
	var packets, bytes, total uint64
	n, whole := 0, 0 // Descs looked at; of these, Descs of whole packets
	size := q.arena.FrameSize()
	for n < avail && n < len(ds) {
		d := q.rx.slots[(cons+uint32(n))&q.rx.mask]
		f, ok := q.arena.FrameAt(d.Addr)
		off := int(d.Addr) & (size - 1)
		if !ok || d.Len == 0 || uint64(off)+uint64(d.Len) > uint64(size) || q.owner[f] != q.tag {
			// Whole packets before the fault are good; nothing more is taken.
			q.corrupt("receive descriptor %#x+%d", d.Addr, d.Len)
			break
		}
		q.owner[f] = 0
		q.arena.Expect(f, off)
		var flags ring.DescFlags
		if d.Options&unix.XDP_PKT_CONTD != 0 {
			flags = ring.FlagMore
		}
		ds[n] = ring.Desc{Frame: f, Off: uint16(off), Len: uint16(d.Len), Flags: flags}
		n++
		total += uint64(d.Len)
		if flags == 0 {
			if b := q.arena.Data(ds[whole]); len(b) > 12 && b[6]&1 != 0 {
				marked(&ds[whole], b)
			}
			if q.gsoLen != 0 && int(total) > q.gsoLen {
				ds[whole].Flags |= ring.FlagGSO
			}
			whole = n
			packets++
			bytes += total
			total = 0
		}
	}
	// The rest of an incomplete packet, or of one that does not fit, waits.
	for _, d := range ds[whole:n] {
		q.owner[d.Frame] = q.tag
	}
	if whole == 0 {
		return 0
	}
	if q.watched && !q.armed {
		q.unwatch(whole)
	}
	q.lent -= whole
	if !q.zc {
		q.size(avail, whole)
	}
	cons += uint32(whole)
	q.seen.Store(cons)
	atomic.StoreUint32(q.rx.cons, cons)
	q.stats.rxPackets.Add(packets)
	q.stats.rxBytes.Add(bytes)
	return whole
}

// marked describes a packet, which begins with b, by the mark that the XDP program
// left in its source address: the segment size of datagrams that the kernel
// joined, this one, so that their checksum needs no verification; or that it is a
// first fragment of the kernel's.
func marked(d *ring.Desc, b []byte) {
	if binary.BigEndian.Uint32(b[6:]) != segmentMark {
		d.Flags |= ring.FlagKernels
		b[6] &^= 1
		return
	}
	d.Flags |= ring.FlagGSO | ring.FlagCsumPartial
	d.SegSize = binary.BigEndian.Uint16(b[10:])
	clear(b[6:12])
}

// segmentMark begins the source address of a packet marked with its segment size;
// keep in step with mark in steer.c.
const segmentMark = 0x01005eff

// The kernel fills the frames lent to it round-robin. When the reader keeps up,
// lending fewer keeps them in the cache. A burst must not overflow them while the
// reader is away for a moment: 1,024 lost frames of 1,000 busy connections under
// the race detector. A queue begins with fewFrames, which shortens round trips of
// one byte. When more than fewWait packets wait at once it lends all frames
// again, until calmFor were received without that.
const (
	fewFrames = 2048
	fewWait   = fewFrames / 8
	calmFor   = 8192
)

// size decides how many frames the kernel should have, after n of the waiting
// ones were received.
func (q *Queue) size(waiting, n int) {
	switch {
	case waiting > fewWait:
		q.target, q.calm = int(q.most.Load()), 0
	case q.target > fewFrames:
		if q.calm += n; q.calm >= calmFor {
			q.target = fewFrames
		}
	}
}

// Lacks implements driver.Queue.
func (q *Queue) Lacks() int {
	if q.dead.Load() {
		return 0
	}
	return max(min(q.target, int(q.most.Load()))-q.lent, 0)
}

// Refill implements driver.Queue.
func (q *Queue) Refill() {
	filled := false
	for lacks := q.Lacks(); lacks > 0; lacks = q.Lacks() {
		n := q.arena.AllocN(q.batch[:min(lacks, len(q.batch))])
		if n == 0 {
			break
		}
		size := uint64(q.arena.FrameSize())
		for _, f := range q.batch[:n] {
			q.owner[f] = q.tag
			q.fill.slots[q.fillProd&q.fill.mask] = uint64(f) * size
			q.fillProd++
		}
		q.lent += n
		filled = true
	}
	if filled {
		atomic.StoreUint32(q.fill.prod, q.fillProd)
		if q.zc && q.fill.needWakeup() {
			recvKick(q.fd)
		}
	}
}

// RxPending implements driver.Queue. Where the NIC is polled instead of
// interrupting, RxPending polls it, since a spinning goroutine calls nothing
// else.
func (q *Queue) RxPending() bool {
	if q.waits() {
		return true
	}
	if !q.busyPoll || q.dead.Load() || !q.fdMu.TryLock() {
		return false
	}
	if q.fd >= 0 {
		recvKick(q.fd)
	}
	q.fdMu.Unlock()
	return q.waits()
}

// waits reports whether something is on the receive ring.
func (q *Queue) waits() bool {
	return atomic.LoadUint32(q.rx.prod) != q.seen.Load() && !q.dead.Load()
}

// Arm implements driver.Queue.
func (q *Queue) Arm() (alreadyReady bool) {
	if q.dead.Load() || q.RxPending() {
		return true
	}
	// An end that only receives notices here that the interface is gone. An
	// occasional look is enough: a socket that lost its interface reports an error
	// to epoll, so it is armed again and again.
	if q.arms++; q.zc || q.arms%goneCheck == 1 {
		if e := recvKick(q.fd); gone(e) {
			q.failGone(e)
			return true
		}
	}
	q.ev.Events = unix.EPOLLIN | unix.EPOLLONESHOT
	op := unix.EPOLL_CTL_MOD
	if !q.watched {
		op = unix.EPOLL_CTL_ADD
	}
	if e := epollCtl(q.ep, op, q.fd, &q.ev); e != 0 {
		q.fail(fmt.Errorf("afxdp: epoll_ctl: %w", e))
		return true
	}
	q.armed, q.watched = true, true
	// epoll_ctl finds a packet that came before it. A look here saves the way
	// through the scheduler.
	if q.RxPending() {
		q.Disarm()
		return true
	}
	return false
}

// gone reports whether a call that failed with e says that the socket has lost
// its interface.
func gone(e unix.Errno) bool { return e == unix.ENXIO || e == unix.ENODEV || e == unix.EBADF }

func (q *Queue) failGone(e unix.Errno) {
	q.fail(fmt.Errorf("afxdp: queue %d of %s: %w: %w", q.id, q.dev.name, driver.ErrGone, e))
}

// goneCheck is the number of Arms for each look whether the interface is there.
const goneCheck = 16

// Disarm implements driver.Queue.
func (q *Queue) Disarm() {
	if !q.armed || q.dead.Load() {
		return
	}
	q.armed, q.unwanted = false, 0
	q.ev.Events = 0
	if e := epollCtl(q.ep, unix.EPOLL_CTL_MOD, q.fd, &q.ev); e != 0 {
		q.fail(fmt.Errorf("afxdp: epoll_ctl: %w", e))
	}
}

// After watchFor Descs received while the queue is disarmed, the socket is taken
// out of WaitFD. Inside, the kernel calls the epoll descriptor for every packet,
// even when no event is asked for. Putting the socket back costs as much as ten
// packets.
const watchFor = 256

// unwatch notes n Descs received while the queue is disarmed.
func (q *Queue) unwatch(n int) {
	if q.unwanted += n; q.unwanted < watchFor {
		return
	}
	q.watched = false
	if e := epollCtl(q.ep, unix.EPOLL_CTL_DEL, q.fd, &q.ev); e != 0 {
		q.fail(fmt.Errorf("afxdp: epoll_ctl: %w", e))
	}
}

// WaitFD implements driver.Queue: an epoll descriptor with the socket inside.
func (q *Queue) WaitFD() int { return q.ep }

// EdgeFD implements driver.Queue: the receiving socket.
func (q *Queue) EdgeFD() int { return q.fd }

// NoEdges implements driver.Queue: the kernel reports to whoever waits.
func (q *Queue) NoEdges() {}

// Caps implements driver.Queue.
func (q *Queue) Caps() *driver.Caps { return q.caps }

// Err implements driver.Queue.
func (q *Queue) Err() error {
	if p := q.err.Load(); p != nil {
		return *p
	}
	return nil
}

// fail stops the queue for good. The first error stays.
func (q *Queue) fail(err error) {
	q.err.CompareAndSwap(nil, &err)
	q.dead.Store(true)
}

// corrupt stops the queue because a ring holds something impossible (attack 26):
// whoever wrote that may have written anything.
func (q *Queue) corrupt(format string, args ...any) {
	q.stats.badDesc.Add(1)
	q.fail(fmt.Errorf("%w: queue %d of %s: %s", ErrCorrupt, q.id, q.dev.name, fmt.Sprintf(format, args...)))
}

// kernelStats asks the socket. The caller has locked fdMu.
func (q *Queue) kernelStats() unix.XDPStatistics {
	if q.fd < 0 {
		return q.last
	}
	s, err := xdpStatistics(q.fd)
	if err != nil {
		return q.last
	}
	if t, err := xdpStatistics(q.txFD); err == nil {
		s.Tx_invalid_descs += t.Tx_invalid_descs
	}
	return s
}

// Stats implements driver.Queue.
func (q *Queue) Stats() driver.Stats {
	q.fdMu.Lock()
	k := q.kernelStats()
	q.fdMu.Unlock()
	s := &q.stats
	return driver.Stats{
		RxPackets: s.rxPackets.Load(), RxBytes: s.rxBytes.Load(),
		TxPackets: s.txPackets.Load(), TxBytes: s.txBytes.Load(),
		Kicks: s.kicks.Load(), KickErrors: s.kickErrors.Load(),
		RxDropped:   k.Rx_dropped + k.Rx_ring_full,
		RxFillEmpty: k.Rx_fill_ring_empty_descs,
		RxInvalid:   k.Rx_invalid_descs,
		TxInvalid:   k.Tx_invalid_descs + s.txInvalid.Load(),
		TxRingFull:  s.txRefused.Load(),
		TxRingNone:  s.kickNone.Load(),
		BadDesc:     s.badDesc.Load(),
	}
}
