package packetdrill

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"

	"github.com/onload-go/onload/ip"
)

// Kinds of TCP options on the wire.
const (
	kindEOL    = 0
	kindNOP    = 1
	kindMSS    = 2
	kindWScale = 3
	kindSACKOK = 4
	kindSACK   = 5
	kindTS     = 8
	kindFO     = 34
	kindExp    = 254

	expFO = 0xf989 // the experiment that Fast Open was (RFC 7413 section 4.1.1)
)

const flagSYN, flagACK = 1 << 1, 1 << 4

// putOptions encodes options as the script has them, padding included.
func putOptions(opts []TCPOption) ([]byte, error) {
	var b []byte
	for _, o := range opts {
		switch o.Kind {
		case OptEOL:
			b = append(b, kindEOL)
		case OptNOP:
			b = append(b, kindNOP)
		case OptMSS:
			b = append(b, kindMSS, 4)
			b = binary.BigEndian.AppendUint16(b, uint16(o.Value))
		case OptWScale:
			b = append(b, kindWScale, 3, byte(o.Value))
		case OptSACKOK:
			b = append(b, kindSACKOK, 2)
		case OptSACK:
			b = append(b, kindSACK, byte(2+8*len(o.Blocks)))
			for _, k := range o.Blocks {
				b = binary.BigEndian.AppendUint32(b, k.Start)
				b = binary.BigEndian.AppendUint32(b, k.End)
			}
		case OptTS:
			b = append(b, kindTS, 10)
			b = binary.BigEndian.AppendUint32(b, o.Value)
			b = binary.BigEndian.AppendUint32(b, o.Ecr)
		case OptFO:
			b = append(b, kindFO, byte(2+len(o.Cookie)))
			b = append(b, o.Cookie...)
		case OptFOExp:
			b = append(b, kindExp, byte(4+len(o.Cookie)))
			b = binary.BigEndian.AppendUint16(b, expFO)
			b = append(b, o.Cookie...)
		}
	}
	if len(b)%4 != 0 || len(b) > 40 {
		return nil, failf("options of %d bytes: they must fill whole words, at most 40 bytes", len(b))
	}
	return b, nil
}

// parseOptions is the inverse. ok is false where an option is malformed or
// unknown.
func parseOptions(b []byte) (opts []TCPOption, ok bool) {
	for len(b) > 0 {
		switch b[0] {
		case kindEOL:
			opts = append(opts, TCPOption{Kind: OptEOL})
			b = b[1:]
			continue
		case kindNOP:
			opts = append(opts, TCPOption{Kind: OptNOP})
			b = b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			return opts, false
		}
		o, ok := parseOption(b[0], b[2:b[1]])
		if !ok {
			return opts, false
		}
		opts = append(opts, o)
		b = b[b[1]:]
	}
	return opts, true
}

func parseOption(kind byte, d []byte) (o TCPOption, ok bool) {
	switch {
	case kind == kindMSS && len(d) == 2:
		return TCPOption{Kind: OptMSS, Value: uint32(binary.BigEndian.Uint16(d))}, true
	case kind == kindWScale && len(d) == 1:
		return TCPOption{Kind: OptWScale, Value: uint32(d[0])}, true
	case kind == kindSACKOK && len(d) == 0:
		return TCPOption{Kind: OptSACKOK}, true
	case kind == kindTS && len(d) == 8:
		return TCPOption{Kind: OptTS, Value: binary.BigEndian.Uint32(d), Ecr: binary.BigEndian.Uint32(d[4:])}, true
	case kind == kindSACK && len(d)%8 == 0 && len(d) > 0:
		o.Kind = OptSACK
		for ; len(d) > 0; d = d[8:] {
			o.Blocks = append(o.Blocks, Block{binary.BigEndian.Uint32(d), binary.BigEndian.Uint32(d[4:])})
		}
		return o, true
	case kind == kindFO:
		return TCPOption{Kind: OptFO, Cookie: d}, true
	case kind == kindExp && len(d) >= 2 && binary.BigEndian.Uint16(d) == expFO:
		return TCPOption{Kind: OptFOExp, Cookie: d[2:]}, true
	}
	return o, false
}

// build makes the bytes of a TCP packet, from src to dst, with the checksum.
func build(p *Packet, src, dst netip.AddrPort, payload []byte) ([]byte, error) {
	opts, err := putOptions(p.Opts)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 20, 20+len(opts)+len(payload))
	binary.BigEndian.PutUint16(b, src.Port())
	binary.BigEndian.PutUint16(b[2:], dst.Port())
	binary.BigEndian.PutUint32(b[4:], p.Seq)
	binary.BigEndian.PutUint32(b[8:], p.Ack)
	b[12] = byte(20+len(opts))/4<<4 | byte(p.Flags>>8)
	b[13] = byte(p.Flags)
	binary.BigEndian.PutUint16(b[14:], uint16(p.Win))
	binary.BigEndian.PutUint16(b[18:], p.Urg)
	b = append(append(b, opts...), payload...)
	binary.BigEndian.PutUint16(b[16:], ^ip.Add(ip.PseudoSum(src.Addr(), dst.Addr(), ip.ProtoTCP, len(b)), ip.Sum(b)))
	return b, nil
}

// take reads a TCP packet that left from src for dst. Sequence numbers are
// those of the wire. A malformed packet is an error.
func take(b []byte, src, dst netip.AddrPort, ecn uint8) (p *Packet, payload []byte, err error) {
	if ip.Add(ip.PseudoSum(src.Addr(), dst.Addr(), ip.ProtoTCP, len(b)), ip.Sum(b)) != 0xffff {
		return nil, nil, failf("a packet with a bad checksum left")
	}
	hl := int(b[12]>>4) * 4
	if len(b) < 20 || hl < 20 || hl > len(b) {
		return nil, nil, failf("a packet with a bad header length left")
	}
	p = &Packet{
		Seq: binary.BigEndian.Uint32(b[4:]), Ack: binary.BigEndian.Uint32(b[8:]),
		Flags: uint16(b[13]) | uint16(b[12]&1)<<8,
		Win:   uint32(binary.BigEndian.Uint16(b[14:])), HasWin: true,
		Urg: binary.BigEndian.Uint16(b[18:]),
		Len: len(b) - hl,
		ECN: [...]ECN{NoECN, ECT1, ECT0, CE}[ecn&3],
	}
	p.SeqEnd = p.Seq + uint32(p.Len)
	p.HasAck = p.Flags&flagACK != 0
	var ok bool
	if p.Opts, ok = parseOptions(b[20:hl]); !ok {
		return nil, nil, failf("a packet with the options %x left", b[20:hl])
	}
	return p, b[hl:], nil
}

// optionsLen is the length of the options on the wire.
func optionsLen(opts []TCPOption) int {
	b, _ := putOptions(opts)
	return len(b)
}

// String writes a packet in the language of the scripts.
func (p *Packet) String() string {
	var b strings.Builder
	if p.In {
		b.WriteString("< ")
	} else {
		b.WriteString("> ")
	}
	if m := [...]string{"", "[noecn] ", "[ect0] ", "[ect1] ", "[ect01] ", "[ce] "}[p.ECN]; p.ECN != NoECN {
		b.WriteString(m)
	}
	if p.Proto != TCP {
		b.WriteString([...]string{"tcp", "udp", "icmp "}[p.Proto] + p.ICMPType + " " + p.ICMPCode)
		return b.String()
	}
	b.WriteString(flagText(p.Flags))
	fmt.Fprintf(&b, " %d:%d(%d)", p.Seq, p.SeqEnd, p.Len)
	if p.HasAck {
		fmt.Fprintf(&b, " ack %d", p.Ack)
	}
	if p.HasWin {
		fmt.Fprintf(&b, " win %d", p.Win)
	}
	if p.Urg != 0 {
		fmt.Fprintf(&b, " urg %d", p.Urg)
	}
	if p.AnyOpts {
		b.WriteString(" <...>")
	} else if len(p.Opts) > 0 {
		var o []string
		for _, x := range p.Opts {
			o = append(o, x.String())
		}
		b.WriteString(" <" + strings.Join(o, ",") + ">")
	}
	return b.String()
}

func flagText(f uint16) string {
	s := ""
	for i, c := range "FSRP.UEWA" {
		if f&(1<<i) != 0 {
			s += string(c)
		}
	}
	if s == "" {
		return "-"
	}
	return s
}

func (o TCPOption) String() string {
	switch o.Kind {
	case OptEOL:
		return "eol"
	case OptNOP:
		return "nop"
	case OptMSS:
		return fmt.Sprintf("mss %d", o.Value)
	case OptWScale:
		return fmt.Sprintf("wscale %d", o.Value)
	case OptSACKOK:
		return "sackOK"
	case OptTS:
		return fmt.Sprintf("TS val %d ecr %d", o.Value, o.Ecr)
	case OptSACK:
		s := "sack"
		for _, k := range o.Blocks {
			s += fmt.Sprintf(" %d:%d", k.Start, k.End)
		}
		return s
	case OptFO:
		return strings.TrimSpace("FO " + hex.EncodeToString(o.Cookie))
	}
	return strings.TrimSpace("FOEXP " + hex.EncodeToString(o.Cookie))
}
