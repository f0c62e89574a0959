package tcp

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/onload-go/onload/ring"
)

// Flags are the control bits of a segment.
type Flags uint8

// The control bits (RFC 9293 section 3.1).
const (
	FlagFIN Flags = 1 << iota
	FlagSYN
	FlagRST
	FlagPSH
	FlagACK
	FlagURG
	FlagECE
	FlagCWR
)

// Offsets of the header's fields in bytes (RFC 9293 section 3.1). The data
// offset is the upper half of its byte.
const (
	OffsetSeq        = 4
	OffsetAck        = 8
	OffsetDataOffset = 12
	OffsetFlags      = 13
	OffsetWindow     = 14
	OffsetChecksum   = 16
	OffsetUrgent     = 18
)

// Has reports whether all bits of x are set.
func (f Flags) Has(x Flags) bool { return f&x == x }

// Sane reports whether an honest host sends such flags: there is SYN, ACK or RST;
// no RST with SYN; and FIN with SYN only in a complete answer. Scanners send
// others, to learn from the answers.
func (f Flags) Sane() bool {
	return f&(FlagSYN|FlagACK|FlagRST) != 0 &&
		(f&FlagSYN == 0 || f&FlagRST == 0 && f&(FlagFIN|FlagACK) != FlagFIN)
}

// String names the bits that are set, as tcpdump does.
func (f Flags) String() string {
	const letters = "FSRP.UEW"
	var b [8]byte
	n := 0
	for i := range letters {
		if f&(1<<i) != 0 {
			b[n] = letters[i]
			n++
		}
	}
	if n == 0 {
		return "none"
	}
	return string(b[:n])
}

var (
	// ErrShort: the segment or its first piece is shorter than its header.
	ErrShort = errors.New("tcp: segment shorter than its header")
	// ErrOffset: the data offset is below the least header.
	ErrOffset = errors.New("tcp: bad data offset")
)

// Segment is a received segment. It is parsed once; its later holders may trim it.
type Segment struct {
	Local, Remote netip.AddrPort
	Seq, Ack      uint32
	Wnd, Urg      uint16 // as on the wire
	Flags         Flags
	ECN           uint8 // the ECN bits of the IP header
	Opt           Options
	Payload       []ring.Desc // headers cut off
	Len           int         // bytes of payload
}

// Ports returns the ports of a TCP or UDP header of which at least 4 bytes
// are there.
func Ports(hdr []byte) (src, dst uint16) {
	return binary.BigEndian.Uint16(hdr), binary.BigEndian.Uint16(hdr[2:])
}

// Parse reads the header at hdr, the first piece of a segment of l4len bytes. It
// sets all fields except Local, Remote, ECN and Payload. It verifies lengths only:
// it does not look at the checksum, and no option makes it refuse.
func (s *Segment) Parse(hdr []byte, l4len int) (hdrLen int, err error) {
	if len(hdr) < headerSize || l4len < headerSize {
		return 0, ErrShort
	}
	hdrLen = int(hdr[OffsetDataOffset]>>4) * 4
	if hdrLen < headerSize {
		return 0, ErrOffset
	}
	if hdrLen > len(hdr) || hdrLen > l4len {
		return 0, ErrShort
	}
	s.Seq = binary.BigEndian.Uint32(hdr[OffsetSeq:])
	s.Ack = binary.BigEndian.Uint32(hdr[OffsetAck:])
	s.Flags = Flags(hdr[OffsetFlags])
	s.Wnd = binary.BigEndian.Uint16(hdr[OffsetWindow:])
	s.Urg = binary.BigEndian.Uint16(hdr[OffsetUrgent:])
	s.Len = l4len - hdrLen
	s.Opt.Parse(hdr[headerSize:hdrLen], s.Flags&FlagSYN != 0)
	return hdrLen, nil
}

// End is the sequence number after the segment; SYN and FIN take one each.
func (s *Segment) End() uint32 {
	n := uint32(s.Len)
	if s.Flags&FlagSYN != 0 {
		n++
	}
	if s.Flags&FlagFIN != 0 {
		n++
	}
	return s.Seq + n
}

// putHeader writes a header as long as b, but leaves the options in b alone. The
// checksum and the urgent pointer become 0. It returns the sum of the header's
// 32-bit words.
func putHeader(b []byte, sport, dport uint16, seq, ack uint32, fl Flags, wnd uint16) uint64 {
	_ = b[headerSize-1]
	// Store whole words. The checksum reads them again at once, and a load that has
	// to join two pending stores makes the processor wait for both.
	ports, rest := uint64(sport)<<16|uint64(dport), uint64(len(b)/4)<<28|uint64(fl)<<16|uint64(wnd)
	binary.BigEndian.PutUint64(b[0:], ports<<32|uint64(seq))
	binary.BigEndian.PutUint64(b[8:], uint64(ack)<<32|rest)
	binary.BigEndian.PutUint32(b[16:], 0)
	return ports + uint64(seq) + uint64(ack) + rest
}
