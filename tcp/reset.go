package tcp

import (
	"encoding/binary"
	"net/netip"

	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

// Reset builds in f the reset that answers s, a segment that belongs to no
// connection (RFC 9293 section 3.10.7.1), and counts it. ok is false if s is a
// reset itself, which must not be answered. f stays the caller's.
func (h *Host) Reset(s *Segment, f ring.Frame) (d ring.Desc, ok bool) {
	if s.Flags.Has(FlagRST) {
		return ring.Desc{}, false
	}
	var seq, ack uint32
	fl := FlagRST
	if s.Flags.Has(FlagACK) {
		seq = s.Ack
	} else {
		ack = s.End()
		fl |= FlagACK
	}
	b := h.header(f, headerSize)
	putHeader(b, s.Local.Port(), s.Remote.Port(), seq, ack, fl, 0)
	h.Stats.OutRsts.Add(1)
	return h.seal(f, headerSize, s.Local, s.Remote), true
}

// header returns the place of a header of n bytes in f, for seal.
func (h *Host) header(f ring.Frame, n int) []byte {
	return h.Arena.Bytes(f)[ring.Headroom-n : ring.Headroom]
}

// seal completes a packet without payload whose n bytes of header stand at
// header(f, n), checksum 0.
func (h *Host) seal(f ring.Frame, n int, local, remote netip.AddrPort) ring.Desc {
	d := ring.Desc{Frame: f, Off: uint16(ring.Headroom - n), Len: uint16(n)}
	b := h.header(f, n)
	sum := ip.PseudoSum(local.Addr(), remote.Addr(), ip.ProtoTCP, n)
	if h.TxCsum {
		d.Flags, d.CsumOff = ring.FlagCsumPartial, OffsetChecksum
	} else {
		sum = ^ip.Add(sum, ip.Sum(b))
	}
	binary.BigEndian.PutUint16(b[OffsetChecksum:], sum)
	return d
}
