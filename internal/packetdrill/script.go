// Package packetdrill runs scripts in packetdrill's language against package
// tcp, in virtual time: the script is the network, the peer and the user.
package packetdrill

// Script is a parsed script.
type Script struct {
	Options []Option
	Events  []Event
}

// Option is an init option: --Name=Value, or a definition -D Name=Value.
type Option struct {
	Line        int
	Name, Value string
	Define      bool
}

// Event is one line of a script. Exactly one of Packet, Call, Shell and Code
// is set.
type Event struct {
	Line   int
	Time   Time
	Packet *Packet
	Call   *Call
	Shell  *string // a command line
	Code   *string // assertions, in Python
}

// TimeKind says how a Time counts.
type TimeKind uint8

// The kinds of times. A relative one counts from the event before.
const (
	Absolute TimeKind = iota
	Relative
	AnyTime
)

// Time is when an event happens, nanoseconds.
type Time struct {
	Kind TimeKind
	At   int64
	// To is the latest time at which a packet may leave (Range), or the time
	// at which a call returns (Blocking). It counts from where At counts.
	To              int64
	Range, Blocking bool
}

// ECN is what a script says of the ECN bits of an IP header.
type ECN uint8

// The ECN marks.
const (
	ECNUnset ECN = iota // nothing said
	NoECN
	ECT0
	ECT1
	ECT01 // either of the two
	CE
)

// Proto is the protocol of a packet.
type Proto uint8

// The protocols.
const (
	TCP Proto = iota
	UDP
	ICMP
)

// Packet is a packet to be injected or expected.
type Packet struct {
	In    bool // from the network to us
	Proto Proto
	ECN   ECN

	// TCP. Flags are the header's bits, of which bit 8 is AE.
	Flags        uint16
	Seq, SeqEnd  uint32
	Len          int // of the payload; UDP's too
	Ack          uint32
	HasAck       bool
	Win          uint32
	HasWin       bool
	Urg          uint16
	Opts         []TCPOption
	AnyOpts      bool // <...>
	FD           int  // of the socket that it is for
	HasFD        bool
	SrcPort      uint16 // 0: the connection's
	DstPort      uint16
	ICMPType     string // unreachable, packet_too_big ...
	ICMPCode     string
	ICMPMTU      int
	Quote        Proto // what the ICMP message quotes
	QSeq, QEnd   uint32
	QLen         int
	HasQuotedSeq bool
}

// OptionKind is a TCP option's kind.
type OptionKind uint8

// The options.
const (
	OptEOL OptionKind = iota
	OptNOP
	OptMSS
	OptWScale
	OptSACKOK
	OptSACK
	OptTS
	OptFO
	OptFOExp
)

// Block is a range of sequence numbers, End excluded.
type Block struct{ Start, End uint32 }

// TCPOption is an option, in the order of the packet.
type TCPOption struct {
	Kind   OptionKind
	Value  uint32 // MSS, WScale, TS val
	Ecr    uint32 // TS
	Blocks []Block
	Cookie []byte
	// CookieName stands for a cookie that an option defines.
	CookieName string
	AnyCookie  bool
}

// Call is a system call, its expected result and error.
type Call struct {
	Name   string
	Args   []Expr
	Result Expr
	Errno  string // "": none
}

// ExprKind is the kind of an Expr.
type ExprKind uint8

// The expressions.
const (
	Ellipsis ExprKind = iota // anything
	Number
	String
	Name   // a constant
	Or     // Args[0] | Args[1]
	Not    // ~Args[0]
	Array  // [Args]
	Struct // {Fields}, or {Args} without names
	Apply  // Text(Args), as htons(80)
)

// Expr is an argument or a result.
type Expr struct {
	Kind   ExprKind
	Num    int64
	Text   string
	Args   []Expr
	Fields []Field
}

// Field is a member of a structure. Count is Name(Count)=, which some carry.
type Field struct {
	Name  string
	Count *Expr
	Value Expr
}
