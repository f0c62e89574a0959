package engine

import (
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/stack"
)

// Recv is the control messages that a UDP socket gives with each datagram, one bit
// for each option that asks for one.
type Recv uint32

const (
	RecvTimestamp    Recv = 1 << iota // SO_TIMESTAMP
	RecvTimestampNS                   // SO_TIMESTAMPNS
	RecvTimestamping                  // SO_TIMESTAMPING: when software received it
	RecvDrops                         // SO_RXQ_OVFL
	RecvPktInfo                       // IP_PKTINFO
	RecvTTL                           // IP_RECVTTL
	RecvTOS                           // IP_RECVTOS
	RecvOrigDst                       // IP_RECVORIGDSTADDR
	RecvPktInfo6                      // IPV6_RECVPKTINFO
	RecvHopLimit                      // IPV6_RECVHOPLIMIT
	RecvTClass                        // IPV6_RECVTCLASS
	RecvOrigDst6                      // IPV6_RECVORIGDSTADDR
	RecvJoined                        // UDP_GRO
)

// followRecv notes that a UDP socket is to give a control message. Such options of
// a TCP socket are the kernel's.
func followRecv(bit Recv, name string) func(*Options, sockValue, *sockState) {
	return func(o *Options, v sockValue, s *sockState) {
		switch {
		case s.typ != unix.SOCK_DGRAM:
			o.leave(name)
		case v.int() != 0:
			o.Recv |= bit
		}
	}
}

// followTimestamping notes that a UDP socket is to tell when its datagrams were
// received. Stamps of the NIC, and those of what is sent, are the kernel's
// (Documentation/networking/timestamping.rst).
func followTimestamping(o *Options, v sockValue, s *sockState) {
	const report = unix.SOF_TIMESTAMPING_SOFTWARE | unix.SOF_TIMESTAMPING_RX_SOFTWARE
	switch flags := v.int(); {
	case s.typ != unix.SOCK_DGRAM || flags&^report != 0:
		o.leave("SO_TIMESTAMPING")
	case flags == report:
		o.Recv |= RecvTimestamping
	}
}

func followMTU4(o *Options, v sockValue, s *sockState) {
	o.ip.PathMTU = o.pathMTU(v, s, "IP_MTU_DISCOVER")
}

func followMTU6(o *Options, v sockValue, s *sockState) {
	o.ip.PathMTU6 = o.pathMTU(v, s, "IPV6_MTU_DISCOVER")
}

// pathMTU is the mode of the option of that name, whose values are the same in
// both families.
func (o *Options) pathMTU(v sockValue, s *sockState, name string) stack.PathMTUMode {
	if s.typ == unix.SOCK_DGRAM {
		switch v.int() {
		case unix.IP_PMTUDISC_WANT:
			return stack.PathMTUWant
		case unix.IP_PMTUDISC_DO:
			return stack.PathMTUDo
		case unix.IP_PMTUDISC_PROBE:
			return stack.PathMTUProbe
		}
	}
	o.leave(name)
	return 0
}

// followUDP sets the options in c, which is open. Buffers of which o says nothing have
// their default.
func followUDP(c *stack.UDPConn, o *stack.UDPOptions) {
	c.SetIP(o.IP)
	c.SetSegment(o.Segment)
	c.SetJoined(o.Joined)
	_ = c.SetReadBuffer(o.RcvBuf)
	_ = c.SetWriteBuffer(o.SndBuf)
}

// Follow sets the options of an open socket, and those of shards that join later.
func (c *Socket) Follow(o *Options) {
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.e.udp(o)
	c.sendGroups(&u.IP)
	if c.groups != o.groups || c.opts.IP != u.IP { // a TOS may lead another way
		c.routes.clear()
	}
	c.opts.IP, c.opts.Segment, c.opts.Joined, c.groups = u.IP, u.Segment, u.Joined, o.groups
	c.opts.RcvBuf, c.opts.SndBuf = u.RcvBuf, u.SndBuf
	for _, s := range c.parts.Load().shards {
		followUDP(s, u)
	}
}

// FollowUDP sets the options of an open connected socket.
func (e *Engine) FollowUDP(c *stack.UDPConn, o *Options) { followUDP(c, e.udp(o)) }

// OptionsOf returns the options of a socket of ours, beside which the program has
// the kernel's socket c: those that a hook and the program set on c.
func (e *Engine) OptionsOf(c syscall.RawConn) (o Options, err error) {
	var now *sockState
	var kind sockKind
	err = c.Control(func(fd uintptr) {
		kind = kindOf(int(fd))
		now = stateOf(int(fd), kind)
	})
	if err != nil {
		return o, err
	}
	fresh, err := e.freshState(-1, kind)
	if err != nil {
		return o, err
	}
	o.by = "the program"
	fresh.changes(now, &o)
	return o, nil
}

// MaySend reports whether a can be the source of a datagram. An Engine that
// accelerates nothing leaves that to the kernel.
func (e *Engine) MaySend(a netip.Addr) bool { return e.net == nil || e.Local(a) }

// Local reports whether a is an address of this host.
func (e *Engine) Local(a netip.Addr) bool {
	_, ok := e.net.Local(a)
	return ok
}
