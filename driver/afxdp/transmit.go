package afxdp

import (
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/ring"
)

// TxSpace implements driver.Queue. A Desc takes its place until Reclaim, so the
// completion ring, which has the same size, never overflows.
func (q *Queue) TxSpace() int {
	if q.dead.Load() {
		return 0
	}
	return q.txSize - q.posted
}

// TxBatch implements driver.Queue. A packet that the kernel could never send
// (more than Caps.MaxFrags Descs, an empty or impossible Desc) is taken and
// dropped, and counted as TxInvalid: it must not block those behind it.
func (q *Queue) TxBatch(ds []ring.Desc) int {
	// Writers have small stacks. Nearly all batches are one packet of one Desc, and
	// this path for them needs little stack.
	switch {
	case q.ruled.Load():
		return q.txQdisc(ds)
	case len(ds) == 1 && ds[0].Flags&(ring.FlagMore|ring.FlagGSO) == 0 && q.sound(&ds[0]) &&
		q.posted < q.txSize && !q.dead.Load():
		options := uint32(0)
		if ds[0].Flags&ring.FlagCsumPartial != 0 {
			if !q.completes(&ds[0]) {
				break
			}
			options = unix.XDP_TX_METADATA
			q.putMeta(&ds[0])
		}
		q.put(&ds[0], options)
		q.publish(q.txProd - 1)
		q.stats.txPackets.Add(1)
		q.stats.txBytes.Add(uint64(ds[0].Len))
		return 1
	case len(ds) > 0 && ds[0].Flags&ring.FlagGSO != 0:
		return q.txLarge(ds)
	}
	return q.txBatch(ds)
}

// txLarge is TxBatch for a packet that the device segments.
func (q *Queue) txLarge(ds []ring.Desc) int {
	n, total := ring.PacketLen(ds)
	if n < len(ds) || q.dead.Load() || !q.sendable(ds) {
		return q.txBatch(ds)
	}
	if !q.txSegment(ds, total) {
		return 0
	}
	return len(ds)
}

// sound reports whether the kernel would take d as a piece of a packet.
func (q *Queue) sound(d *ring.Desc) bool {
	// The kernel wants room for its metadata in front of every Desc.
	return d.Len != 0 && int(d.Off) >= q.txMeta && int(d.Off)+int(d.Len) <= q.arena.FrameSize() && int(d.Frame) < q.arena.Frames()
}

// put puts d on the ring, which has room.
func (q *Queue) put(d *ring.Desc, options uint32) {
	q.tx.slots[q.txProd&q.tx.mask] = unix.XDPDesc{
		Addr:    uint64(d.Frame)*uint64(q.arena.FrameSize()) + uint64(d.Off),
		Len:     uint32(d.Len),
		Options: options,
	}
	q.txProd++
	q.arena.Posted(d.Frame)
}

// txBatch is TxBatch for any batch.
func (q *Queue) txBatch(ds []ring.Desc) int {
	if q.dead.Load() {
		return 0
	}
	space := q.txSize - q.posted
	var packets, bytes uint64
	done, start := 0, q.txProd
	for done < len(ds) {
		n, total := ring.PacketLen(ds[done:])
		pkt := ds[done : done+n]
		if !q.sendable(pkt) {
			q.stats.txInvalid.Add(1)
			done += n
			continue
		}
		if pkt[0].Flags&ring.FlagGSO != 0 {
			q.publish(start)
			start = q.txProd
			if !q.txSegment(pkt, total) {
				break
			}
			done += n
			continue
		}
		if n > space {
			q.stats.txRefused.Add(1)
			break
		}
		first := q.txProd
		for i := range pkt {
			options := uint32(unix.XDP_PKT_CONTD)
			if i == n-1 {
				options = 0
			}
			q.put(&pkt[i], options)
		}
		if pkt[0].Flags&ring.FlagCsumPartial != 0 {
			q.tx.slots[first&q.tx.mask].Options |= unix.XDP_TX_METADATA
			q.putMeta(&pkt[0])
		}
		space -= n
		done += n
		packets++
		bytes += uint64(total)
	}
	q.publish(start)
	if packets > 0 {
		q.stats.txPackets.Add(packets)
		q.stats.txBytes.Add(bytes)
	}
	return done
}

// publish shows the kernel what is on the ring since start.
func (q *Queue) publish(start uint32) {
	if q.txProd != start {
		q.posted += int(q.txProd - start)
		atomic.StoreUint32(q.tx.prod, q.txProd)
	}
}

// sendable reports whether the kernel would take the packet. If it refuses a Desc,
// it never returns the frame.
func (q *Queue) sendable(pkt []ring.Desc) bool {
	most := q.maxFrags
	if pkt[0].Flags&ring.FlagGSO != 0 {
		most = laneFrags
	}
	if len(pkt) > most || pkt[len(pkt)-1].Flags&ring.FlagMore != 0 {
		return false
	}
	if pkt[0].Flags&ring.FlagCsumPartial != 0 && !q.completes(&pkt[0]) {
		return false
	}
	for i := range pkt {
		if !q.sound(&pkt[i]) {
			return false
		}
	}
	return true
}

// Bounds of one Kick: system calls in a row that sent nothing, and all calls.
const (
	kickIdle = 4
	kickMost = 512
)

// Kick implements driver.Queue. In copy mode the kernel takes a limited number of
// Descs a call, so Kick calls until the ring is empty.
func (q *Queue) Kick() error {
	if q.dead.Load() {
		return q.Err()
	}
	if q.txSize == 0 {
		return nil
	}
	left := q.txProd - atomic.LoadUint32(q.tx.cons)
	if left == 0 {
		q.stats.kickNone.Add(1)
		return nil
	}
	if q.zc {
		// The NIC takes them by itself unless it asks to be woken.
		if !q.tx.needWakeup() {
			return nil
		}
		q.stats.kicks.Add(1)
		return q.kicked(sendKick(q.txFD))
	}
	for calls, idle := 0, 0; calls < kickMost && idle < kickIdle; calls++ {
		e := sendKick(q.txFD)
		q.stats.kicks.Add(1)
		before := left
		if left = q.txProd - atomic.LoadUint32(q.tx.cons); left == 0 {
			if e != 0 && e != unix.EAGAIN {
				q.stats.kickErrors.Add(1)
			}
			return nil
		}
		// EBUSY: the link dropped a packet, which counts as taken although the
		// index may not show it yet. EAGAIN with some taken: the budget.
		switch {
		case left != before || e == unix.EBUSY:
			idle = 0
		default:
			idle++
		}
		if e != 0 && (e != unix.EAGAIN || left == before) {
			if err := q.kicked(e); err != nil {
				return err
			}
		}
	}
	return unix.EAGAIN
}

// kicked counts a failed kick, and returns the errors that end it.
func (q *Queue) kicked(e unix.Errno) error {
	if e == 0 {
		return nil
	}
	q.stats.kickErrors.Add(1)
	switch {
	case e == unix.EAGAIN, e == unix.EBUSY, e == unix.ENOBUFS, e == unix.EINTR:
		return nil
	case e == unix.ENETDOWN:
		return unix.ENETDOWN
	case gone(e):
		q.failGone(e)
	default:
		q.fail(fmt.Errorf("afxdp: queue %d of %s: transmit: %w", q.id, q.dev.name, e))
	}
	return q.Err()
}

// Reclaim implements driver.Queue.
func (q *Queue) Reclaim() int {
	if q.dead.Load() {
		return 0
	}
	return q.reclaim()
}

func (q *Queue) reclaim() int {
	n := int(atomic.LoadUint32(q.comp.prod) - q.compCons)
	if n == 0 {
		return 0
	}
	if n > q.posted {
		q.corrupt("%d completions for %d descriptors", n, q.posted)
		return 0
	}
	done := 0
	for done < n {
		addr := q.comp.slots[q.compCons&q.comp.mask]
		f, ok := q.arena.FrameAt(addr)
		if !ok || !q.arena.Completed(f) {
			q.corrupt("completion %#x", addr)
			break
		}
		q.compCons++
		done++
	}
	q.posted -= done
	atomic.StoreUint32(q.comp.cons, q.compCons)
	return done
}
