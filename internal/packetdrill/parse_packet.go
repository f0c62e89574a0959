package packetdrill

import (
	"encoding/hex"
	"strconv"
	"strings"
)

// uint reads a number of at most the given bits.
func (s *scanner) uint(bits int) (uint32, error) {
	w := s.word()
	n, err := strconv.ParseUint(w, 0, bits)
	if err != nil {
		return 0, s.fail("number of %d bits expected, not %q", bits, w)
	}
	return uint32(n), nil
}

var ecnMarks = map[string]ECN{"noecn": NoECN, "ect0": ECT0, "ect1": ECT1, "ect01": ECT01, "ce": CE}

// packet reads a packet, from its direction on.
func (s *scanner) packet() (p *Packet, err error) {
	p = &Packet{In: s.take("<")}
	if !p.In {
		s.take(">")
	}
	if s.take("[") {
		w := s.word()
		if p.ECN = ecnMarks[w]; p.ECN == ECNUnset {
			return nil, s.fail("unknown mark [%s]", w)
		}
		if err = s.expect("]"); err != nil {
			return nil, err
		}
	}
	switch {
	case s.keyword("udp"):
		p.Proto = UDP
		p.Len, err = s.length()
		return p, err
	case s.keyword("icmp"):
		p.Proto = ICMP
		return p, s.icmp(p)
	}
	return p, s.tcp(p)
}

// length reads (n).
func (s *scanner) length() (int, error) {
	if err := s.expect("("); err != nil {
		return 0, err
	}
	n, err := s.uint(16)
	if err != nil {
		return 0, err
	}
	return int(n), s.expect(")")
}

// seq reads start:end(length), which must agree.
func (s *scanner) seq() (from, to uint32, n int, err error) {
	if from, err = s.uint(32); err != nil {
		return
	}
	if err = s.expect(":"); err != nil {
		return
	}
	if to, err = s.uint(32); err != nil {
		return
	}
	if n, err = s.length(); err == nil && to-from != uint32(n) {
		err = s.fail("%d:%d is not %d bytes", from, to, n)
	}
	return
}

func (s *scanner) icmp(p *Packet) (err error) {
	p.ICMPType = s.word()
	if p.ICMPType == "" {
		return s.fail("ICMP type expected")
	}
	s.space()
	if s.peek() != '[' && !s.keyword("mtu") {
		p.ICMPCode = s.word()
		s.keyword("mtu")
	}
	if s.space(); s.peek() >= '0' && s.peek() <= '9' {
		n, err := s.uint(16)
		if err != nil {
			return err
		}
		p.ICMPMTU = int(n)
	}
	if !s.take("[") {
		return nil
	}
	if s.keyword("udp") {
		p.Quote = UDP
		p.QLen, err = s.length()
	} else {
		p.HasQuotedSeq = true
		p.QSeq, p.QEnd, p.QLen, err = s.seq()
	}
	if err != nil {
		return err
	}
	return s.expect("]")
}

// flagBits gives a letter its bit of the TCP header.
var flagBits = map[byte]uint16{
	'F': 1 << 0, 'S': 1 << 1, 'R': 1 << 2, 'P': 1 << 3, '.': 1 << 4,
	'U': 1 << 5, 'E': 1 << 6, 'W': 1 << 7, 'A': 1 << 8,
}

// flags reads letters, - for none, or letters with one digit that is the
// number made of AE, CWR and ECE.
func (s *scanner) flags() (f uint16, err error) {
	w := s.run(func(b byte) bool { return strings.IndexByte("FSRP.UEWA-01234567", b) >= 0 })
	if w == "" {
		return 0, s.fail("packet expected at %q", s.near())
	}
	for i := range len(w) {
		switch b := w[i]; {
		case b == '-' && len(w) == 1:
		case b >= '0' && b <= '7':
			f |= uint16(b-'0') << 6
		case flagBits[b] != 0 && f&flagBits[b] == 0:
			f |= flagBits[b]
		default:
			return 0, s.fail("bad flags %q", w)
		}
	}
	return f, nil
}

func (s *scanner) tcp(p *Packet) (err error) {
	if err = s.ports(p); err != nil {
		return err
	}
	if p.Flags, err = s.flags(); err != nil {
		return err
	}
	if p.Seq, p.SeqEnd, p.Len, err = s.seq(); err != nil {
		return err
	}
	if p.HasAck = s.keyword("ack"); p.HasAck {
		if p.Ack, err = s.uint(32); err != nil {
			return err
		}
	}
	if p.HasWin = s.keyword("win"); p.HasWin {
		if p.Win, err = s.uint(16); err != nil {
			return err
		}
	}
	if s.keyword("urg") {
		n, err := s.uint(16)
		if err != nil {
			return err
		}
		p.Urg = uint16(n)
	}
	if err = s.options(p); err != nil {
		return err
	}
	if s.take("/udp") {
		return &Error{Line: s.line, What: "TCP in UDP", Unsupported: true}
	}
	return s.forFD(p)
}

// ports reads "sport > dport", which few packets have.
func (s *scanner) ports(p *Packet) error {
	s.space()
	line, _, _ := strings.Cut(s.rest(), "\n")
	from, to, ok := strings.Cut(line, ">")
	if _, err := strconv.ParseUint(strings.TrimSpace(from), 10, 16); !ok || err != nil || to == "" {
		return nil
	}
	n, err := s.uint(16)
	if err != nil {
		return err
	}
	p.SrcPort = uint16(n)
	s.take(">")
	if n, err = s.uint(16); err == nil {
		p.DstPort = uint16(n)
	}
	return err
}

// forFD reads "(for fd n)".
func (s *scanner) forFD(p *Packet) error {
	if !s.take("(") {
		return nil
	}
	if !s.keyword("for") || !s.keyword("fd") {
		return s.fail("\"for fd\" expected at %q", s.near())
	}
	n, err := s.uint(16)
	if err != nil {
		return err
	}
	p.FD, p.HasFD = int(n), true
	return s.expect(")")
}

// options reads <option, ...>. A < that begins the next event cannot stand
// here: a time would be in front of it.
func (s *scanner) options(p *Packet) error {
	if !s.take("<") {
		return nil
	}
	if s.take("...") {
		p.AnyOpts = true
		return s.expect(">")
	}
	for first := true; !s.take(">"); first = false {
		if !first {
			if err := s.expect(","); err != nil {
				return err
			}
		}
		o, err := s.tcpOption()
		if err != nil {
			return err
		}
		p.Opts = append(p.Opts, o)
	}
	return nil
}

func (s *scanner) tcpOption() (o TCPOption, err error) {
	switch w := s.word(); w {
	case "eol":
		o.Kind = OptEOL
	case "nop":
		o.Kind = OptNOP
	case "sackOK":
		o.Kind = OptSACKOK
	case "mss":
		o.Kind = OptMSS
		o.Value, err = s.uint(16)
	case "wscale":
		o.Kind = OptWScale
		o.Value, err = s.uint(8)
	case "TS":
		o.Kind = OptTS
		err = s.timestamps(&o)
	case "sack":
		o.Kind = OptSACK
		err = s.sack(&o)
	case "FO", "FOEXP":
		if o.Kind = OptFO; w == "FOEXP" {
			o.Kind = OptFOExp
		}
		err = s.cookie(&o)
	default:
		return o, &Error{Line: s.line, What: "TCP option " + w, Unsupported: true}
	}
	return o, err
}

func (s *scanner) timestamps(o *TCPOption) (err error) {
	if !s.keyword("val") {
		return s.fail("\"val\" expected at %q", s.near())
	}
	if o.Value, err = s.uint(32); err != nil {
		return err
	}
	if !s.keyword("ecr") {
		return s.fail("\"ecr\" expected at %q", s.near())
	}
	o.Ecr, err = s.uint(32)
	return err
}

func (s *scanner) sack(o *TCPOption) error {
	for s.space(); s.peek() >= '0' && s.peek() <= '9'; s.space() {
		var b Block
		var err error
		if b.Start, err = s.uint(32); err != nil {
			return err
		}
		if err = s.expect(":"); err != nil {
			return err
		}
		if b.End, err = s.uint(32); err != nil {
			return err
		}
		o.Blocks = append(o.Blocks, b)
	}
	if len(o.Blocks) == 0 || len(o.Blocks) > 4 {
		return s.fail("1 to 4 SACK blocks, not %d", len(o.Blocks))
	}
	return nil
}

// cookie reads a Fast Open cookie: hex digits, a name that stands for them,
// "..." for any, or nothing for a request.
func (s *scanner) cookie(o *TCPOption) (err error) {
	if s.take("...") {
		o.AnyCookie = true
		return nil
	}
	w := s.word()
	if o.Cookie, err = hex.DecodeString(w); err != nil {
		o.CookieName = w
	}
	return nil
}
