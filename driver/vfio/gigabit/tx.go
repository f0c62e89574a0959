package gigabit

import (
	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ring"
)

// Fields of a transmit descriptor's second half. DEXT says that there is a type
// (82574 datasheet, "Transmit Descriptors"; 82576, "Transmit Descriptors").
const (
	cmdEnd      = 1 << 24 // of the packet
	cmdFCS      = 1 << 25 // the device appends the frame check sequence
	cmdReport   = 1 << 27 // the device sets done
	cmdExtended = 1 << 29
	done        = 1 << 0 // of the status, 32 bits later

	txStatus = 12
	typeBit  = 20
	popts    = 40 // 82574: offset of the options
)

// Contexts and data of the 82574.
const (
	dataType     = 1 << typeBit
	cmdSegmentEx = 1 << 26 // in data: TSE
	tuTCP        = 1 << 24
	tuIPv4       = 1 << 25
	tuSegment    = 1 << 26
	optIP        = 1 << 0 // insert IPv4's checksum
	optL4        = 1 << 1
)

// Contexts and data of the 82576.
const (
	advContext   = 2 << typeBit
	advData      = 3 << typeBit
	advSegment   = 1 << 31
	advPayload   = 46
	advIPv4      = 1 << 10
	advTCP       = 1 << 11 // else UDP
	advMACLen    = 9
	advHeaderLen = 8
	advSegSize   = 16
)

// Post implements nic.Rings. A context goes before the packet if the device has another.
func (q *Queue) Post(pkt []ring.Desc, size int) {
	start, first := q.free, &pkt[0]
	common := uint64(cmdExtended | cmdFCS)
	if first.Flags&ring.FlagGSO != 0 {
		q.Segmentable(first)
	}
	if first.Flags&ring.FlagCsumPartial != 0 {
		context := q.contextOf(first, size)
		if context != q.context {
			q.context = context
			q.write(context[0], context[1], ring.NoFrame)
		}
	}
	common |= q.dataOf(first, size)
	for i := range pkt {
		d := &pkt[i]
		half := common | uint64(d.Len)
		if i == len(pkt)-1 {
			half |= cmdEnd | cmdReport
			q.last[start] = uint32(q.free)
		}
		q.Arena.Posted(d.Frame)
		q.write(q.Dev.AddressOf(d.Frame)+uint64(d.Off), half, d.Frame)
	}
	q.Flight += len(pkt)
}

// write writes the next descriptor.
func (q *Queue) write(low, high uint64, f ring.Frame) {
	at := q.free * descLen
	q.tx.Put64(at, low)
	q.tx.Put64(at+8, high)
	q.sent[q.free] = f
	q.pending++
	if q.free++; q.free == len(q.sent) {
		q.free = 0
	}
}

// contextOf is the context for the offloads of a packet.
func (q *Queue) contextOf(d *ring.Desc, size int) [2]uint64 {
	gso, v4, tcp := d.Flags&ring.FlagGSO != 0, d.Flags&ring.FlagV6 == 0, d.CsumOff == driver.TCPChecksum
	net, l4 := uint64(d.NetOff), uint64(d.CsumStart)
	if q.advanced {
		low, high := l4-net|net<<advMACLen, uint64(cmdExtended|advContext)
		if v4 {
			high |= advIPv4
		}
		if tcp {
			high |= advTCP
		}
		if gso {
			high |= (uint64(d.HdrLen)-l4)<<(32+advHeaderLen) | uint64(d.SegSize)<<(32+advSegSize)
		}
		return [2]uint64{low, high}
	}
	low := l4<<32 | (l4+uint64(d.CsumOff))<<40 // to the end of the packet
	high := uint64(cmdExtended)
	if v4 {
		low |= net | (net+10)<<8 | (l4-1)<<16
		high |= tuIPv4
	}
	if tcp {
		high |= tuTCP
	}
	if gso {
		high |= tuSegment | uint64(size-int(d.HdrLen)) | uint64(d.HdrLen)<<40 | uint64(d.SegSize)<<48
	}
	return [2]uint64{low, high}
}

// dataOf is what all data descriptors of a packet say of its offloads.
func (q *Queue) dataOf(d *ring.Desc, size int) (half uint64) {
	gso := d.Flags&ring.FlagGSO != 0
	var options uint64
	if d.Flags&ring.FlagCsumPartial != 0 {
		options = optL4
		if gso && d.Flags&ring.FlagV6 == 0 {
			options |= optIP
		}
	}
	half = options << popts
	if !q.advanced {
		if half |= dataType; gso {
			half |= cmdSegmentEx
		}
		return half
	}
	payload := uint64(size)
	if half |= advData; gso {
		half |= advSegment
		payload -= uint64(d.HdrLen)
	}
	return half | payload<<advPayload
}

// Kick implements driver.Queue.
func (q *Queue) Kick() error {
	q.Count.Kicks.Add(1)
	if err := q.Err(); err != nil {
		q.Count.KickErrors.Add(1)
		return err
	}
	if q.kicked == q.free {
		q.Count.TxNone.Add(1)
		return nil
	}
	q.kicked = q.free
	q.regs.Write32(q.txTail, uint32(q.free))
	return nil
}

// Reclaim implements driver.Queue.
func (q *Queue) Reclaim() (frames int) {
	if q.Broken() {
		return 0
	}
	for q.pending > 0 {
		last := int(q.last[q.oldest])
		if q.tx.Load32(last*descLen+txStatus)&done == 0 {
			break
		}
		for more := true; more; {
			at := q.oldest
			if f := q.sent[at]; f != ring.NoFrame {
				q.sent[at] = ring.NoFrame
				if !q.Arena.Completed(f) {
					q.Count.BadDesc.Add(1)
				}
				frames++
			}
			more = at != last
			q.pending--
			if q.oldest++; q.oldest == len(q.sent) {
				q.oldest = 0
			}
		}
	}
	q.Flight -= frames
	return frames
}
