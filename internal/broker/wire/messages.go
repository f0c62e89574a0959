package wire

import "encoding/binary"

// Kinds of messages. Numbers are never given again.
const (
	KindHello Kind = iota + 1
	KindWelcome
	KindOK
	KindRefusal
	KindGrant
	KindGranted
	KindClaim
	KindRelease
	KindExcept
	KindUnexcept
	KindNeighbour
	KindStats
	KindCounters
	KindResume
	KindResumed
	KindLeave
	KindFlows
	KindShare
)

// newBody returns an empty body of that kind, or nil.
func newBody(k Kind) Message {
	for _, m := range []Message{
		&Hello{}, &Welcome{}, &OK{}, &Refusal{}, &Grant{}, &Granted{}, &Claim{}, &Release{},
		&Except{}, &Unexcept{}, &Neighbour{}, &Stats{}, &Counters{}, &Resume{}, &Resumed{}, &Leave{}, &Flows{}, &Share{},
	} {
		if m.kind() == k {
			return m
		}
	}
	return nil
}

// Hello is a client's first message. The kernel says who the client is
// (SO_PEERCRED), so Program is for the log only.
type Hello struct {
	Version uint32
	Program Text
}

// Welcome answers Hello with the interfaces that the client may use.
type Welcome struct {
	WelcomeHead
	Interfaces []Interface
}

// WelcomeHead is a Welcome without its list.
type WelcomeHead struct {
	Memory    uint64 // most bytes of packet memory of the process
	Ports     uint32 // most ports that it may have
	Namespace uint64 // cookie of the interfaces' network namespace
}

// Interface is one that a client may use.
type Interface struct {
	Index uint32 // in the broker's network namespace, which has to be the client's
	Name  Text
}

// OK answers a question that has no other answer.
type OK struct{}

// Refusal answers a question that is refused.
type Refusal struct {
	Errno uint32
	Why   Text // a sentence without full stop, for the user
}

// Grant asks for a link of an interface. With it comes one descriptor: the packet
// memory, a memfd sealed against shrinking and growing.
type Grant struct {
	Link           uint32 // the client's number for it, in later messages
	Index          uint32
	FrameSize      uint32 // bytes
	RxRing, TxRing uint32 // entries
	Segments       uint8  // 1: also a packet socket, by which the kernel segments
	GroupPriority  uint32 // of the kernel sockets that hear multicast groups
}

// Granted answers Grant. With it come the sockets: to receive, to transmit and, if
// Segments was granted, to segment.
type Granted struct {
	Token      [16]byte // for Resume
	MTU        uint32   // bytes, of an IP packet
	SegmentMax uint32   // largest IP packet to be segmented, bytes
	Segments   uint8
	LargeRx    uint8 // received packets may be larger than MTU
	TxMeta     uint8 // bytes of transmit metadata in front of packets; 0: none
	MAC        [6]byte
}

// Claim asks for the packets to a local address and port. With it comes one descriptor: a
// socket of the kernel's that is bound there.
type Claim struct {
	Link uint32
	Port Endpoint
}

// Release gives a port back.
type Release struct {
	Link uint32
	Port Endpoint
}

// Except leaves a connection of a claimed port to the kernel. Unexcept ends that.
type Except struct {
	Link          uint32
	Local, Remote Endpoint
}

// Unexcept is for Except.
type Unexcept Except

// Neighbour has the kernel resolve, or confirm, a neighbour on an interface.
type Neighbour struct {
	Index uint32
	Addr  Addr
}

// Stats asks for the counters of a link.
type Stats struct{ Link uint32 }

// Counters answers Stats, in packets.
type Counters struct {
	Sent, SentFragment                 uint64
	DropMAC, DropVLAN, DropProto       uint64
	DropHeader, DropFragment           uint64
	DropSource, DropChecksum, DropSize uint64
	DropRate                           uint64
}

// Resume takes a link up again whose broker has been restarted. The client then claims
// its ports again, and ends with Resumed: ports that it did not claim are lost.
type Resume struct {
	Link  uint32 // the client's number
	Index uint32
	Token [16]byte
}

// Resumed ends the claims after Resume.
type Resumed struct{ Link uint32 }

// Leave gives a link back, with all of its ports.
type Leave struct{ Link uint32 }

// Flows brings the table of the process's connections, one descriptor (package
// flowtable). When the process has died the broker tells their peers, as far as their
// ports were the process's. It replaces an earlier one.
type Flows struct{}

// Share lets other sockets with SO_REUSEADDR bind a claimed port of TCP, until the next
// Claim shows the one that listens there now, for a second at most.
type Share struct {
	Link uint32
	Port Endpoint
}

func (*Hello) kind() Kind     { return KindHello }
func (*Welcome) kind() Kind   { return KindWelcome }
func (*OK) kind() Kind        { return KindOK }
func (*Refusal) kind() Kind   { return KindRefusal }
func (*Grant) kind() Kind     { return KindGrant }
func (*Granted) kind() Kind   { return KindGranted }
func (*Claim) kind() Kind     { return KindClaim }
func (*Release) kind() Kind   { return KindRelease }
func (*Except) kind() Kind    { return KindExcept }
func (*Unexcept) kind() Kind  { return KindUnexcept }
func (*Neighbour) kind() Kind { return KindNeighbour }
func (*Stats) kind() Kind     { return KindStats }
func (*Counters) kind() Kind  { return KindCounters }
func (*Resume) kind() Kind    { return KindResume }
func (*Resumed) kind() Kind   { return KindResumed }
func (*Leave) kind() Kind     { return KindLeave }
func (*Flows) kind() Kind     { return KindFlows }
func (*Share) kind() Kind     { return KindShare }

// decode reads the head and as many interfaces as follow.
func (w *Welcome) decode(body []byte) error {
	n, err := binary.Decode(body, binary.BigEndian, &w.WelcomeHead)
	if err != nil {
		return malformed("a welcome of %d bytes", len(body))
	}
	size := binary.Size(Interface{})
	if rest := len(body) - n; rest%size != 0 || rest/size > MaxInterfaces {
		return malformed("a welcome of %d bytes", len(body))
	}
	w.Interfaces = make([]Interface, (len(body)-n)/size)
	_, err = binary.Decode(body[n:], binary.BigEndian, w.Interfaces)
	return err
}
