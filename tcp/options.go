package tcp

import "encoding/binary"

// Option kinds.
const (
	optEnd           = 0
	optNOP           = 1
	optMSS           = 2   // RFC 9293 section 3.7.1
	optWScale        = 3   // RFC 7323 section 2
	optSACKPermitted = 4   // RFC 2018 section 2
	optSACK          = 5   // RFC 2018 section 3
	optTimestamps    = 8   // RFC 7323 section 3
	optFastOpen      = 34  // RFC 7413 section 4.1.1
	optExperiment    = 254 // RFC 6994
)

const (
	maxWScale   = 14 // RFC 7323 section 2.3
	maxSACK     = 4  // what 40 bytes of options hold
	maxOptions  = 40
	minFastOpen = 4 // bytes of a cookie
	maxFastOpen = 16
	// fastOpenExID is the experiment that Fast Open was (RFC 7413 section 10).
	fastOpenExID = 0xf989
	nops2        = optNOP<<24 | optNOP<<16
	tsAligned    = nops2 | optTimestamps<<8 | 10
	sackPermWord = nops2 | optSACKPermitted<<8 | 2
)

// SACKBlock is a range of received sequence numbers, End excluded.
type SACKBlock struct{ Start, End uint32 }

// Options has the options of a segment that we know.
type Options struct {
	TSVal, TSEcr  uint32
	SACK          [maxSACK]SACKBlock // the first NSACK
	MSS           uint16             // 0: none
	NSACK         uint8
	WScale        int8 // -1: none
	SACKPermitted bool
	HasTS         bool
	// FastOpen is the length of the Fast Open option in a SYN or SYN-ACK. 0: there
	// is none. 2: it asks for a cookie. Above: it has a cookie of FastOpen-2 bytes.
	FastOpen uint8
	// FastOpenExp says that the option has its experimental form. FastOpen is the
	// length that it would have otherwise.
	FastOpenExp    bool
	FastOpenCookie [maxFastOpen]byte // zero beyond
}

// Parse reads the options in b. Outside of a SYN it ignores those that are legal
// only there. Like Linux it forgives: it skips an option of a wrong length, and
// where a length is impossible the options end, but the segment counts.
func (o *Options) Parse(b []byte, syn bool) {
	o.MSS, o.NSACK, o.WScale = 0, 0, -1
	o.SACKPermitted, o.HasTS, o.FastOpen = false, false, 0
	// Nearly every segment has only this.
	if len(b) == tsSize && binary.BigEndian.Uint32(b) == tsAligned {
		o.timestamps(b[2:])
		return
	}
	for len(b) > 0 {
		switch b[0] {
		case optEnd:
			return
		case optNOP:
			b = b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			return
		}
		o.one(b[:b[1]], syn)
		b = b[b[1]:]
	}
}

// one reads the option that fills b.
func (o *Options) one(b []byte, syn bool) {
	switch b[0] {
	case optMSS:
		if syn && len(b) == 4 {
			o.MSS = binary.BigEndian.Uint16(b[2:])
		}
	case optWScale:
		if syn && len(b) == 3 {
			o.WScale = int8(min(b[2], maxWScale))
		}
	case optSACKPermitted:
		if syn && len(b) == 2 {
			o.SACKPermitted = true
		}
	case optTimestamps:
		if len(b) == 10 {
			o.timestamps(b)
		}
	case optFastOpen:
		o.fastOpen(b[2:], syn, false)
	case optExperiment:
		if len(b) >= 4 && binary.BigEndian.Uint16(b[2:]) == fastOpenExID {
			o.fastOpen(b[4:], syn, true)
		}
	case optSACK:
		if n := (len(b) - 2) / 8; !syn && n >= 1 && n <= maxSACK && len(b) == 2+8*n {
			for i := range n {
				o.SACK[i].Start = binary.BigEndian.Uint32(b[2+8*i:])
				o.SACK[i].End = binary.BigEndian.Uint32(b[6+8*i:])
			}
			o.NSACK = uint8(n)
		}
	}
}

// fastOpen reads the cookie of a Fast Open option.
func (o *Options) fastOpen(cookie []byte, syn, exp bool) {
	n := len(cookie)
	if !syn || n&1 != 0 || n != 0 && (n < minFastOpen || n > maxFastOpen) {
		return
	}
	o.FastOpen, o.FastOpenExp = uint8(2+n), exp
	o.FastOpenCookie = [maxFastOpen]byte{}
	copy(o.FastOpenCookie[:], cookie)
}

func (o *Options) timestamps(b []byte) {
	o.HasTS = true
	o.TSVal = binary.BigEndian.Uint32(b[2:])
	o.TSEcr = binary.BigEndian.Uint32(b[6:])
}

// putTimestamps writes the timestamps option, aligned by two NOPs (RFC 7323
// appendix A), and returns its length.
func putTimestamps(b []byte, val, ecr uint32) int {
	_ = b[tsSize-1]
	binary.BigEndian.PutUint32(b, tsAligned)
	binary.BigEndian.PutUint64(b[4:], uint64(val)<<32|uint64(ecr))
	return tsSize
}

// putSACK writes as many blocks as an option holds and b has room for, aligned by
// two NOPs. It returns the length; 0 if there is no room for any.
func putSACK(b []byte, blocks []SACKBlock) int {
	n := min(len(blocks), maxSACK, (len(b)-4)/8)
	if n <= 0 {
		return 0
	}
	binary.BigEndian.PutUint32(b, uint32(nops2|optSACK<<8|2+8*n))
	for i, s := range blocks[:n] {
		binary.BigEndian.PutUint32(b[4+8*i:], s.Start)
		binary.BigEndian.PutUint32(b[8+8*i:], s.End)
	}
	return 4 + 8*n
}

// putSYNOptions writes the options of a SYN or SYN-ACK, laid out as Linux
// does, and returns their length, a multiple of 4 and at most 40.
func putSYNOptions(b []byte, o *Options) int {
	n := 0
	if o.MSS != 0 {
		binary.BigEndian.PutUint32(b, optMSS<<24|4<<16|uint32(o.MSS))
		n = 4
	}
	switch {
	case o.HasTS:
		putTimestamps(b[n:], o.TSVal, o.TSEcr)
		if o.SACKPermitted {
			b[n], b[n+1] = optSACKPermitted, 2 // instead of the two NOPs
		}
		n += tsSize
	case o.SACKPermitted:
		binary.BigEndian.PutUint32(b[n:], sackPermWord)
		n += 4
	}
	if o.WScale >= 0 {
		binary.BigEndian.PutUint32(b[n:], optNOP<<24|optWScale<<16|3<<8|uint32(uint8(o.WScale)))
		n += 4
	}
	if o.FastOpen != 0 {
		if o.FastOpenExp {
			binary.BigEndian.PutUint32(b[n:], uint32(optExperiment<<24|(int(o.FastOpen)+2)<<16|fastOpenExID))
			n += 4
		} else {
			b[n], b[n+1] = optFastOpen, o.FastOpen
			n += 2
		}
		n += copy(b[n:], o.FastOpenCookie[:o.FastOpen-2])
		for ; n%4 != 0; n++ {
			b[n] = optNOP
		}
	}
	return n
}
