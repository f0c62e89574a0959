package vmxnet3

import (
	"errors"

	"github.com/onload-go/onload/ring"
)

// Vmxnet3_RxDesc: address, then length with type and generation.
const (
	rxSize   = 8
	bodyType = 1 << 14 // VMXNET3_RXD_BTYPE_BODY
	rxGen    = 31
)

// Vmxnet3_RxCompDesc: index with ring, hash, length, and what the device found.
const (
	compLength = 8
	compFlags  = 12

	compIndex  = 1<<12 - 1 // rxdIdx
	compEnd    = 1 << 14   // eop
	compStart  = 1 << 15   // sop
	compRing   = 16        // rqID
	ringBits   = 1<<10 - 1
	compNoSum  = 1 << 30   // cnc: no checksum was looked at
	lengthBits = 1<<14 - 1 // len
	compError  = 1 << 14   // err
	flagL4     = 1 << 16   // tuc: right checksum
	flagUDP    = 1 << 17
	flagTCP    = 1 << 18
	flagIP     = 1 << 19 // ipc: right checksum
	flagV6     = 1 << 20
	flagPiece  = 1 << 22 // frg: of a datagram
	compGen    = 31

	genOfNext = 31 // in Queue.next
)

var (
	errLength  = errors.New("vmxnet3: the device says a length that its buffer does not have")
	errEndless = errors.New("vmxnet3: the device says that a packet has no end")
	errStart   = errors.New("vmxnet3: the device says that a packet begins within another, or does not begin")
	errNoFrame = errors.New("vmxnet3: the device has used a descriptor that it does not have")
)

// place is an entry of the ring of completions.
type place struct {
	at  int
	gen uint32
}

func (q *Queue) place() place {
	v := q.next.Load()
	return place{int(v &^ (1 << genOfNext)), v >> genOfNext}
}

func (q *Queue) after(p place) place {
	if p.at++; p.at == q.compLen {
		p.at, p.gen = 0, p.gen^1
	}
	return p
}

// Whole implements nic.Rings. Its descriptors are completions.
func (q *Queue) Whole() (k int, err error) {
	for p := q.place(); ; p = q.after(p) {
		if q.comp.Load32(p.at*descLen+compFlags)>>compGen != p.gen {
			return 0, nil
		}
		c := q.comp.Get32(p.at * descLen)
		if (c&compStart != 0) != (k == 0) {
			return 0, errStart
		}
		if k++; c&compEnd != 0 {
			return k, nil
		}
		if k == q.pieces {
			return 0, errEndless
		}
	}
}

// RxPending implements driver.Queue.
func (q *Queue) RxPending() bool {
	if q.Broken() {
		return false
	}
	k, err := q.Whole()
	return k > 0 || err != nil // RxBatch finds the fault
}

// Take implements nic.Rings. The device may write others meanwhile than Whole has seen.
func (q *Queue) Take(ds []ring.Desc) (total int, good bool, err error) {
	p := q.place()
	good = true
	var c, length, flags uint32
	for i := range ds {
		at := p.at * descLen
		c, length, flags = q.comp.Get32(at), q.comp.Get32(at+compLength), q.comp.Get32(at+compFlags)
		size := length & lengthBits
		if int(size) > q.Arena.FrameSize() {
			return 0, false, errLength
		}
		which := c >> compRing & ringBits
		if which > body {
			return 0, false, errNoFrame
		}
		f, ok := q.rings[which].take(q.Arena, int(c&compIndex))
		if !ok {
			return 0, false, errNoFrame
		}
		// Linux's driver knows packets of no length, which it passes over.
		good = good && size > 0 && length&compError == 0
		ds[i] = ring.Desc{Frame: f, Len: uint16(size), Flags: ring.FlagMore}
		total += int(size)
		p = q.after(p)
	}
	q.next.Store(uint32(p.at) | p.gen<<genOfNext)
	ds[len(ds)-1].Flags = 0
	if !good {
		q.Count.RxInvalid.Add(1)
		return total, false, nil
	}
	if q.Dev.Traits.TxCsum && c&compNoSum == 0 && verified(flags) {
		ds[0].Flags |= ring.FlagCsumGood
	}
	return total, true, nil
}

// verified reports whether the device has found the checksums of a packet right.
func verified(flags uint32) bool {
	return flags&flagL4 != 0 && flags&(flagTCP|flagUDP) != 0 && flags&(flagIP|flagV6) != 0 && flags&flagPiece == 0
}

// take takes the frame of descriptor i, which the device has filled. Frames of those
// that it has gone past are free.
func (r *rxRing) take(a *ring.Arena, i int) (ring.Frame, bool) {
	past := i - r.next
	if past < 0 {
		past += len(r.lent)
	}
	if i >= len(r.lent) || past >= r.out {
		return ring.NoFrame, false
	}
	for {
		f := r.lent[r.next]
		r.lent[r.next] = ring.NoFrame
		at := r.next
		r.out--
		if r.next++; r.next == len(r.lent) {
			r.next = 0
		}
		if at == i {
			return f, true
		}
		a.Free(f)
	}
}

// Refill implements driver.Queue.
func (q *Queue) Refill() {
	if q.Broken() {
		return
	}
	q.refill(&q.rings[head], regHeadProd, 0)
	q.refill(&q.rings[body], regBodyProd, bodyType)
}

func (q *Queue) refill(r *rxRing, reg int, kind uint32) {
	n := r.most - r.out
	if n == 0 {
		return
	}
	fs := q.fill[:n]
	fs = fs[:q.Arena.AllocN(fs)]
	if len(fs) == 0 {
		return
	}
	// A device that goes on by itself asks for no index.
	tell := r.out == 0 || q.shared.Read8(rxQueue+queueCtrl) != 0
	for _, f := range fs {
		r.lent[r.give] = f
		at := r.give * descLen
		r.desc.Put64(at, q.Dev.AddressOf(f))
		r.desc.Write32(at+rxSize, uint32(q.Arena.FrameSize())|kind|r.gen<<rxGen)
		if r.give++; r.give == len(r.lent) {
			r.give, r.gen = 0, r.gen^1
		}
	}
	r.out += len(fs)
	if tell {
		q.fast.Write32(reg, uint32(r.give))
	}
}

// Lacks implements driver.Queue.
func (q *Queue) Lacks() int {
	if q.Broken() {
		return 0
	}
	return q.Dev.Traits.RxRing - q.rings[head].out - q.rings[body].out
}
