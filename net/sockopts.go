package onload

import (
	"encoding/binary"
	"math"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/tcp"
)

// sockopt is an option that a Control hook may have set, and what becomes of
// it: follow has the connection do as asked; nil: only the kernel can.
type sockopt struct {
	level, opt int
	name       string
	follow     func(o *options, v sockValue, s sockState)
}

// sockopts are the options that make a difference. Not among them are those
//
//   - that net sets itself afterwards (TCP_NODELAY);
//   - about things that are the kernel's anyway, since its socket has the
//     option too: broadcast, multicast, what is not accelerated of a bound port;
//   - that only advise the kernel, or calls on a descriptor: SO_BUSY_POLL and its
//     like, SO_INCOMING_CPU, SO_RCVTIMEO, SO_PEEK_OFF, SO_ZEROCOPY, SO_TXREHASH,
//     TCP_QUICKACK, TCP_THIN_DUPACK, IP_BIND_ADDRESS_NO_PORT, IPV6_AUTOFLOWLABEL;
//   - that we do in any case: SO_OOBINLINE (RFC 6093, 3.1), UDP_GRO.
//
// What getsockopt does not tell cannot be here: TCP_MD5SIG, TCP_AO, the
// programs of a SO_REUSEPORT group.
var sockopts = []sockopt{
	{unix.SOL_SOCKET, unix.SO_RCVBUF, "SO_RCVBUF", func(o *options, v sockValue, _ sockState) { o.rcvBuf = v.int() / 2 }}, // it tells twice what was asked for
	{unix.SOL_SOCKET, unix.SO_SNDBUF, "SO_SNDBUF", func(o *options, v sockValue, _ sockState) { o.sndBuf = v.int() / 2 }},
	{unix.SOL_SOCKET, unix.SO_LINGER, "SO_LINGER", followLinger},
	{unix.SOL_SOCKET, unix.SO_KEEPALIVE, "SO_KEEPALIVE", followKeepAlive},
	{unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE, "SO_MAX_PACING_RATE", followPacing},
	{unix.SOL_SOCKET, unix.SO_PRIORITY, "SO_PRIORITY", followPriority},
	{unix.SOL_SOCKET, unix.SO_REUSEADDR, "SO_REUSEADDR", func(o *options, v sockValue, _ sockState) { o.reuseAddr = v.int() != 0 }},
	{unix.SOL_SOCKET, unix.SO_REUSEPORT, "SO_REUSEPORT", func(o *options, v sockValue, _ sockState) { o.reusePort = v.int() != 0 }},
	{unix.SOL_SOCKET, unix.SO_MARK, "SO_MARK", nil},
	{unix.SOL_SOCKET, unix.SO_BINDTODEVICE, "SO_BINDTODEVICE", nil},
	{unix.SOL_SOCKET, unix.SO_DONTROUTE, "SO_DONTROUTE", nil},
	{unix.SOL_SOCKET, unix.SO_RCVLOWAT, "SO_RCVLOWAT", nil},
	{unix.SOL_SOCKET, unix.SO_NO_CHECK, "SO_NO_CHECK", nil},
	{unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, "SO_TIMESTAMPNS", nil},
	{unix.SOL_SOCKET, unix.SO_TIMESTAMPNS_NEW, "SO_TIMESTAMPNS", nil},
	{unix.SOL_SOCKET, unix.SO_TIMESTAMP, "SO_TIMESTAMP", nil},
	{unix.SOL_SOCKET, unix.SO_TIMESTAMP_NEW, "SO_TIMESTAMP", nil},
	{unix.SOL_SOCKET, unix.SO_TIMESTAMPING, "SO_TIMESTAMPING", nil},
	{unix.SOL_SOCKET, unix.SO_RXQ_OVFL, "SO_RXQ_OVFL", nil},
	{unix.SOL_SOCKET, unix.SO_RCVMARK, "SO_RCVMARK", nil},
	{unix.SOL_SOCKET, unix.SO_TXTIME, "SO_TXTIME", nil},
	{unix.SOL_SOCKET, unix.SO_GET_FILTER, "SO_ATTACH_FILTER", nil}, // an error, where it is SO_ATTACH_BPF

	{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, "TCP_USER_TIMEOUT", func(o *options, v sockValue, _ sockState) { o.userTimeout = v.duration(time.Millisecond) }},
	{unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, "TCP_DEFER_ACCEPT", func(o *options, v sockValue, _ sockState) { o.deferAccept = v.duration(time.Second) }},
	{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, "TCP_KEEPIDLE", followKeepAlive},
	{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, "TCP_KEEPINTVL", followKeepAlive},
	{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, "TCP_KEEPCNT", followKeepAlive},
	{unix.IPPROTO_TCP, unix.TCP_SYNCNT, "TCP_SYNCNT", func(o *options, v sockValue, _ sockState) { o.synRetries = v.int() }},
	{unix.IPPROTO_TCP, unix.TCP_LINGER2, "TCP_LINGER2", func(o *options, v sockValue, _ sockState) { o.finWait2 = v.duration(time.Second) }},
	{unix.IPPROTO_TCP, unix.TCP_MAXSEG, "TCP_MAXSEG", func(o *options, v sockValue, _ sockState) { o.maxSeg = v.int() }},
	{unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP, "TCP_WINDOW_CLAMP", followWindowClamp},
	{unix.IPPROTO_TCP, unix.TCP_CONGESTION, "TCP_CONGESTION", followCongestion},
	{unix.IPPROTO_TCP, unix.TCP_FASTOPEN, "TCP_FASTOPEN", func(o *options, v sockValue, _ sockState) { o.fastOpen = v.int() }},
	{unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, "TCP_FASTOPEN_CONNECT", func(o *options, v sockValue, _ sockState) { o.fastConnect = v.int() != 0 }},
	{unix.IPPROTO_TCP, unix.TCP_FASTOPEN_NO_COOKIE, "TCP_FASTOPEN_NO_COOKIE", func(o *options, v sockValue, _ sockState) { o.noCookie = v.int() != 0 }},
	{unix.IPPROTO_TCP, unix.TCP_FASTOPEN_KEY, "TCP_FASTOPEN_KEY", func(o *options, v sockValue, _ sockState) { o.fastKeys, _ = tcp.NewFastOpenKeys([]byte(v)) }},
	{unix.IPPROTO_TCP, unix.TCP_CORK, "TCP_CORK", nil},
	{unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, "TCP_NOTSENT_LOWAT", nil},
	{unix.IPPROTO_TCP, unix.TCP_THIN_LINEAR_TIMEOUTS, "TCP_THIN_LINEAR_TIMEOUTS", nil},
	{unix.IPPROTO_TCP, unix.TCP_REPAIR, "TCP_REPAIR", nil},
	{unix.IPPROTO_TCP, unix.TCP_SAVE_SYN, "TCP_SAVE_SYN", nil},
	{unix.IPPROTO_TCP, unix.TCP_ULP, "TCP_ULP", nil},
	{unix.IPPROTO_TCP, unix.TCP_INQ, "TCP_INQ", nil},
	{unix.IPPROTO_TCP, unix.TCP_TX_DELAY, "TCP_TX_DELAY", nil},

	{unix.IPPROTO_UDP, unix.UDP_CORK, "UDP_CORK", nil},
	{unix.IPPROTO_UDP, unix.UDP_ENCAP, "UDP_ENCAP", nil},
	{unix.IPPROTO_UDP, unix.UDP_SEGMENT, "UDP_SEGMENT", nil},
	{unix.IPPROTO_UDP, unix.UDP_NO_CHECK6_TX, "UDP_NO_CHECK6_TX", nil},
	{unix.IPPROTO_UDP, unix.UDP_NO_CHECK6_RX, "UDP_NO_CHECK6_RX", nil},

	{unix.IPPROTO_IP, unix.IP_TOS, "IP_TOS", func(o *options, v sockValue, _ sockState) { o.ip.TOS = uint8(v.int()) }},
	{unix.IPPROTO_IP, unix.IP_TTL, "IP_TTL", func(o *options, v sockValue, _ sockState) { o.ip.TTL = uint8(v.int()) }},
	{unix.IPPROTO_IP, unix.IP_MINTTL, "IP_MINTTL", nil},
	{unix.IPPROTO_IP, unix.IP_OPTIONS, "IP_OPTIONS", nil},
	{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, "IP_MTU_DISCOVER", nil},
	{unix.IPPROTO_IP, unix.IP_TRANSPARENT, "IP_TRANSPARENT", nil}, // IPV6_TRANSPARENT is the same flag
	{unix.IPPROTO_IP, unix.IP_FREEBIND, "IP_FREEBIND", nil},       // likewise IPV6_FREEBIND
	{unix.IPPROTO_IP, unix.IP_UNICAST_IF, "IP_UNICAST_IF", nil},
	{unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE, "IP_LOCAL_PORT_RANGE", nil},
	{unix.IPPROTO_IP, unix.IP_RECVERR, "IP_RECVERR", nil},
	{unix.IPPROTO_IP, unix.IP_PKTINFO, "IP_PKTINFO", nil},
	{unix.IPPROTO_IP, unix.IP_RECVTTL, "IP_RECVTTL", nil},
	{unix.IPPROTO_IP, unix.IP_RECVTOS, "IP_RECVTOS", nil},
	{unix.IPPROTO_IP, unix.IP_RECVOPTS, "IP_RECVOPTS", nil},
	{unix.IPPROTO_IP, unix.IP_RETOPTS, "IP_RETOPTS", nil},
	{unix.IPPROTO_IP, unix.IP_RECVORIGDSTADDR, "IP_RECVORIGDSTADDR", nil},
	{unix.IPPROTO_IP, unix.IP_RECVFRAGSIZE, "IP_RECVFRAGSIZE", nil},
	{unix.IPPROTO_IP, unix.IP_PASSSEC, "IP_PASSSEC", nil},
	{unix.IPPROTO_IP, unix.IP_CHECKSUM, "IP_CHECKSUM", nil},

	{unix.IPPROTO_IPV6, unix.IPV6_TCLASS, "IPV6_TCLASS", func(o *options, v sockValue, _ sockState) { o.ip.TrafficClass = uint8(v.int()) }},
	{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, "IPV6_UNICAST_HOPS", followHops},
	{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, "IPV6_V6ONLY", func(*options, sockValue, sockState) {}}, // see twinOptions
	{unix.IPPROTO_IPV6, unix.IPV6_MINHOPCOUNT, "IPV6_MINHOPCOUNT", nil},
	{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, "IPV6_MTU_DISCOVER", nil},
	{unix.IPPROTO_IPV6, unix.IPV6_DONTFRAG, "IPV6_DONTFRAG", nil},
	{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_IF, "IPV6_UNICAST_IF", nil},
	{unix.IPPROTO_IPV6, unix.IPV6_ADDR_PREFERENCES, "IPV6_ADDR_PREFERENCES", nil},
	{unix.IPPROTO_IPV6, ipv6FlowInfoSend, "IPV6_FLOWINFO_SEND", nil},
	{unix.IPPROTO_IPV6, ipv6FlowInfo, "IPV6_FLOWINFO", nil},
	{unix.IPPROTO_IPV6, unix.IPV6_HOPOPTS, "IPV6_HOPOPTS", nil},
	{unix.IPPROTO_IPV6, unix.IPV6_DSTOPTS, "IPV6_DSTOPTS", nil},
	{unix.IPPROTO_IPV6, unix.IPV6_RTHDRDSTOPTS, "IPV6_RTHDRDSTOPTS", nil},
	{unix.IPPROTO_IPV6, unix.IPV6_RTHDR, "IPV6_RTHDR", nil},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVERR, "IPV6_RECVERR", nil},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, "IPV6_RECVPKTINFO", nil},
	{unix.IPPROTO_IPV6, unix.IPV6_2292PKTINFO, "IPV6_2292PKTINFO", nil},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, "IPV6_RECVHOPLIMIT", nil},
	{unix.IPPROTO_IPV6, unix.IPV6_2292HOPLIMIT, "IPV6_2292HOPLIMIT", nil},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, "IPV6_RECVTCLASS", nil},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPOPTS, "IPV6_RECVHOPOPTS", nil},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVDSTOPTS, "IPV6_RECVDSTOPTS", nil},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVRTHDR, "IPV6_RECVRTHDR", nil},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVPATHMTU, "IPV6_RECVPATHMTU", nil},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVORIGDSTADDR, "IPV6_RECVORIGDSTADDR", nil},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVFRAGSIZE, "IPV6_RECVFRAGSIZE", nil},
}

// Those that package unix does not have (linux/in6.h).
const (
	ipv6FlowInfo     = 11
	ipv6FlowInfoSend = 33
)

func followLinger(o *options, v sockValue, _ sockState) {
	sec := -1
	if len(v) == 8 && v.int() != 0 { // l_onoff, l_linger
		sec = v[4:].int()
	}
	o.linger = &sec
}

func followKeepAlive(o *options, _ sockValue, s sockState) {
	o.keepAlive = &tcp.KeepAlive{
		Enable:   s.get(unix.SOL_SOCKET, unix.SO_KEEPALIVE).int() != 0,
		Idle:     s.get(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE).duration(time.Second),
		Interval: s.get(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL).duration(time.Second),
		Count:    s.get(unix.IPPROTO_TCP, unix.TCP_KEEPCNT).int(),
	}
}

func followPacing(o *options, v sockValue, _ sockState) {
	if rate := v.uint64(); rate != math.MaxUint64 && rate != math.MaxUint32 {
		o.pacing = rate
	}
}

// followPriority: queueing disciplines do not see what is accelerated. IP_TOS
// sets a priority too (the kernel's rt_tos2priority).
func followPriority(o *options, v sockValue, s sockState) {
	ofTOS := [...]int{0, 2, 6, 4}[s.get(unix.IPPROTO_IP, unix.IP_TOS).int()>>3&3]
	if v.int() != ofTOS {
		o.leave("SO_PRIORITY")
	}
}

// followWindowClamp: a receive buffer of that size has such a window.
func followWindowClamp(o *options, v sockValue, _ sockState) {
	const least = 4096 // that such a buffer may be
	if v.int() < least {
		o.leave("TCP_WINDOW_CLAMP")
		return
	}
	o.windowClamp = v.int()
}

func followCongestion(o *options, v sockValue, _ sockState) {
	name := strings.TrimRight(string(v), "\x00")
	if o.congestion = ourCongestion(name); !tcp.ValidCongestion(o.congestion) {
		o.kernel = "a Control hook chose the kernel's congestion control " + name
	}
}

// followHops: a hop limit of 0 gets no further than this host.
func followHops(o *options, v sockValue, _ sockState) {
	if o.ip.HopLimit = uint8(v.int()); o.ip.HopLimit == 0 {
		o.leave("IPV6_UNICAST_HOPS")
	}
}

// applies tells whether a socket of the family and type may have the option:
// what need not be read is not.
func (x *sockopt) applies(family, typ int) bool {
	switch x.level {
	case unix.IPPROTO_TCP:
		return typ == unix.SOCK_STREAM
	case unix.IPPROTO_UDP:
		return typ == unix.SOCK_DGRAM
	case unix.IPPROTO_IPV6:
		return family == unix.AF_INET6
	}
	return true
}

// sockValue is what getsockopt gives, empty where that fails.
type sockValue string

func (v sockValue) int() int {
	if len(v) < 4 {
		return 0
	}
	return int(int32(binary.NativeEndian.Uint32([]byte(v))))
}

func (v sockValue) uint64() uint64 {
	if len(v) < 8 {
		return uint64(uint32(v.int()))
	}
	return binary.NativeEndian.Uint64([]byte(v))
}

func (v sockValue) duration(unit time.Duration) time.Duration { return time.Duration(v.int()) * unit }

// sockState is the state of a socket's options, by level and number.
type sockState map[[2]int]sockValue

func (s sockState) get(level, opt int) sockValue { return s[[2]int{level, opt}] }

// stateOf reads the options of fd.
func stateOf(fd int) sockState {
	family, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	typ, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	s := make(sockState, len(sockopts))
	for i := range sockopts {
		if x := &sockopts[i]; x.applies(family, typ) {
			s[[2]int{x.level, x.opt}] = x.read(fd)
		}
	}
	return s
}

// read returns the option of fd. Package unix reads such values as strings of
// C's, which end at a zero.
func (x *sockopt) read(fd int) sockValue {
	var b [64]byte
	n := uint32(len(b))
	if x.opt == unix.SO_GET_FILTER && x.level == unix.SOL_SOCKET {
		n = 0 // it counts instructions: with none it tells how many there are
	}
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(x.level), uintptr(x.opt),
		uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&n)), 0)
	switch {
	case x.opt == unix.SO_GET_FILTER && x.level == unix.SOL_SOCKET:
		// There is a filter, or one of another kind.
		if n > 0 || errno == unix.EACCES {
			return "filter"
		}
		return ""
	case errno != 0:
		return ""
	}
	return sockValue(b[:min(n, uint32(len(b)))])
}

// changes are the options that led from s to t.
func (s sockState) changes(t sockState) (o options) {
	for i := range sockopts {
		x := &sockopts[i]
		switch v := t.get(x.level, x.opt); {
		case v == s.get(x.level, x.opt):
		case x.follow != nil:
			x.follow(&o, v, t)
		default:
			o.leave(x.name)
		}
	}
	return o
}
