package exception

import (
	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/steer"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

// queue is a queue of the NIC's, whose packets for the kernel go to the TAP.
type queue struct {
	driver.Queue
	d       *Device
	headers steer.Headers // scratch, as the others: no packet costs an allocation
	head    [headerLen]byte
	parts   [][]byte
}

// Caps implements driver.Queue.
func (q *queue) Caps() *driver.Caps { return &q.d.caps }

// RxBatch implements driver.Queue. RxPending may have been true for the kernel's packets
// alone, so 0 does not say that nothing has come.
func (q *queue) RxBatch(ds []ring.Desc) (kept int) {
	n := q.Queue.RxBatch(ds)
	arena := q.d.Arena()
	for at := 0; at < n; {
		k, total := ring.PacketLen(ds[at:n])
		packet := ds[at : at+k]
		at += k
		first := arena.Data(packet[0])
		whole := q.headers.Parse(first, total)
		if whole && q.d.table.Ours(first, &q.headers) {
			kept += copy(ds[kept:], packet)
			continue
		}
		h := q.header(&packet[0], whole)
		h.put(q.head[:])
		q.parts = append(q.parts[:0], q.head[:])
		for _, d := range packet {
			q.parts = append(q.parts, arena.Data(d))
		}
		q.d.pass(q.parts)
		for _, d := range packet {
			arena.Free(d.Frame)
		}
	}
	return kept
}

// header says of a packet what the kernel cannot see in it. Only those whose headers were
// understood have more than a frame's bytes.
func (q *queue) header(d *ring.Desc, whole bool) (h netHeader) {
	p := &q.headers
	if !whole || p.Proto != ip.ProtoTCP && p.Proto != ip.ProtoUDP {
		return h
	}
	switch {
	case d.Flags&ring.FlagCsumPartial != 0:
		h.flags, h.csumStart, h.csumOffset = needsCsum, uint16(p.L4Off), driver.TCPChecksum
		if p.Proto == ip.ProtoUDP {
			h.csumOffset = driver.UDPChecksum
		}
	case d.Flags&ring.FlagCsumGood != 0:
		h.flags = dataValid
	}
	if d.Flags&ring.FlagGSO != 0 && d.SegSize > 0 {
		h.gsoSize, h.hdrLen = d.SegSize, uint16(p.L4Off)+driver.TCPHeaderLen
		switch {
		case p.Proto == ip.ProtoUDP:
			h.gsoType, h.hdrLen = gsoUDP, uint16(p.L4Off)+driver.UDPHeaderLen
		case p.V6:
			h.gsoType = gsoTCP6
		default:
			h.gsoType = gsoTCP4
		}
	}
	return h
}
