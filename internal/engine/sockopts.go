package engine

import (
	"math"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/tcp"
)

// sockopt is an option that a Control hook may have set. follow notes it in
// Options. Without follow only the kernel can do what it asks for.
type sockopt struct {
	level, opt int
	name       string
	follow     func(o *Options, v sockValue, s *sockState)
}

// sockopts are the options that make a difference. Not among them are those
//
//   - that net sets itself afterwards (TCP_NODELAY);
//   - about things that are the kernel's anyway, since its socket has the
//     option too: broadcast, what is not accelerated of a bound port;
//   - that say what a socket hears of multicast groups, which is found otherwise
//     (memberships.go);
//   - that only advise the kernel, or calls on a descriptor: SO_BUSY_POLL and its
//     like, SO_INCOMING_CPU, SO_RCVTIMEO, SO_PEEK_OFF, SO_ZEROCOPY, SO_TXREHASH,
//     TCP_QUICKACK, TCP_THIN_DUPACK, IP_BIND_ADDRESS_NO_PORT, IPV6_AUTOFLOWLABEL;
//   - that we do in any case: SO_OOBINLINE (RFC 6093, 3.1).
//
// Options that getsockopt does not return cannot be here: TCP_MD5SIG, TCP_AO, the
// programs of a SO_REUSEPORT group, a TCP_MAXSEG that is the default of 536.
var sockopts = []sockopt{
	{unix.SOL_SOCKET, unix.SO_RCVBUF, "SO_RCVBUF", func(o *Options, v sockValue, _ *sockState) { o.rcvBuf = v.int() / 2 }}, // the kernel doubles the size asked for
	{unix.SOL_SOCKET, unix.SO_SNDBUF, "SO_SNDBUF", func(o *Options, v sockValue, _ *sockState) { o.sndBuf = v.int() / 2 }},
	{unix.SOL_SOCKET, unix.SO_LINGER, "SO_LINGER", followLinger},
	{unix.SOL_SOCKET, unix.SO_KEEPALIVE, "SO_KEEPALIVE", followKeepAlive},
	{unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE, "SO_MAX_PACING_RATE", followPacing},
	{unix.SOL_SOCKET, unix.SO_PRIORITY, "SO_PRIORITY", followPriority},
	{unix.SOL_SOCKET, unix.SO_REUSEADDR, "SO_REUSEADDR", func(o *Options, v sockValue, _ *sockState) { o.reuseAddr = v.int() != 0 }},
	{unix.SOL_SOCKET, unix.SO_REUSEPORT, "SO_REUSEPORT", func(o *Options, v sockValue, _ *sockState) { o.reusePort = v.int() != 0 }},
	{unix.SOL_SOCKET, unix.SO_MARK, "SO_MARK", nil},
	{unix.SOL_SOCKET, unix.SO_BINDTODEVICE, "SO_BINDTODEVICE", nil},
	{unix.SOL_SOCKET, unix.SO_DONTROUTE, "SO_DONTROUTE", nil},
	{unix.SOL_SOCKET, unix.SO_RCVLOWAT, "SO_RCVLOWAT", nil},
	{unix.SOL_SOCKET, unix.SO_NO_CHECK, "SO_NO_CHECK", nil},
	{unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, "SO_TIMESTAMPNS", followRecv(RecvTimestampNS, "SO_TIMESTAMPNS")},
	{unix.SOL_SOCKET, unix.SO_TIMESTAMPNS_NEW, "SO_TIMESTAMPNS", nil},
	{unix.SOL_SOCKET, unix.SO_TIMESTAMP, "SO_TIMESTAMP", followRecv(RecvTimestamp, "SO_TIMESTAMP")},
	{unix.SOL_SOCKET, unix.SO_TIMESTAMP_NEW, "SO_TIMESTAMP", nil},
	{unix.SOL_SOCKET, unix.SO_TIMESTAMPING, "SO_TIMESTAMPING", followTimestamping},
	{unix.SOL_SOCKET, unix.SO_TIMESTAMPING_NEW, "SO_TIMESTAMPING", nil},
	{unix.SOL_SOCKET, unix.SO_RXQ_OVFL, "SO_RXQ_OVFL", followRecv(RecvDrops, "SO_RXQ_OVFL")},
	{unix.SOL_SOCKET, unix.SO_RCVMARK, "SO_RCVMARK", nil},
	{unix.SOL_SOCKET, unix.SO_TXTIME, "SO_TXTIME", nil},
	{unix.SOL_SOCKET, unix.SO_GET_FILTER, "SO_ATTACH_FILTER", nil}, // an error, where it is SO_ATTACH_BPF

	{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, "TCP_USER_TIMEOUT", func(o *Options, v sockValue, _ *sockState) { o.userTimeout = v.duration(time.Millisecond) }},
	{unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, "TCP_DEFER_ACCEPT", func(o *Options, v sockValue, _ *sockState) { o.deferAccept = v.duration(time.Second) }},
	{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, "TCP_KEEPIDLE", followKeepAlive},
	{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, "TCP_KEEPINTVL", followKeepAlive},
	{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, "TCP_KEEPCNT", followKeepAlive},
	{unix.IPPROTO_TCP, unix.TCP_SYNCNT, "TCP_SYNCNT", func(o *Options, v sockValue, _ *sockState) { o.synRetries = v.int() }},
	{unix.IPPROTO_TCP, unix.TCP_LINGER2, "TCP_LINGER2", func(o *Options, v sockValue, _ *sockState) { o.finWait2 = v.duration(time.Second) }},
	{unix.IPPROTO_TCP, unix.TCP_MAXSEG, "TCP_MAXSEG", func(o *Options, v sockValue, _ *sockState) { o.maxSeg = v.int() }},
	{unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP, "TCP_WINDOW_CLAMP", followWindowClamp},
	{unix.IPPROTO_TCP, unix.TCP_CONGESTION, "TCP_CONGESTION", followCongestion},
	{unix.IPPROTO_TCP, unix.TCP_FASTOPEN, "TCP_FASTOPEN", func(o *Options, v sockValue, _ *sockState) { o.fastOpen = v.int() }},
	{unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, "TCP_FASTOPEN_CONNECT", func(o *Options, v sockValue, _ *sockState) { o.fastConnect = v.int() != 0 }},
	{unix.IPPROTO_TCP, unix.TCP_FASTOPEN_NO_COOKIE, "TCP_FASTOPEN_NO_COOKIE", func(o *Options, v sockValue, _ *sockState) { o.noCookie = v.int() != 0 }},
	{unix.IPPROTO_TCP, unix.TCP_FASTOPEN_KEY, "TCP_FASTOPEN_KEY", func(o *Options, v sockValue, _ *sockState) { o.fastKeys, _ = tcp.NewFastOpenKeys([]byte(v)) }},
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
	{unix.IPPROTO_UDP, unix.UDP_SEGMENT, "UDP_SEGMENT", func(o *Options, v sockValue, _ *sockState) { o.segment = v.int() }},
	{unix.IPPROTO_UDP, unix.UDP_GRO, "UDP_GRO", func(o *Options, v sockValue, _ *sockState) { o.joined = v.int() != 0 }},
	{unix.IPPROTO_UDP, unix.UDP_NO_CHECK6_TX, "UDP_NO_CHECK6_TX", nil},
	{unix.IPPROTO_UDP, unix.UDP_NO_CHECK6_RX, "UDP_NO_CHECK6_RX", nil},

	{unix.IPPROTO_IP, unix.IP_TOS, "IP_TOS", func(o *Options, v sockValue, _ *sockState) { o.ip.TOS = uint8(v.int()) }},
	{unix.IPPROTO_IP, unix.IP_TTL, "IP_TTL", func(o *Options, v sockValue, _ *sockState) { o.ip.TTL = uint8(v.int()) }},
	{unix.IPPROTO_IP, unix.IP_MULTICAST_TTL, "IP_MULTICAST_TTL", followGroupTTL},
	{unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP, "IP_MULTICAST_LOOP", followLoop4},
	{unix.IPPROTO_IP, unix.IP_MULTICAST_IF, "IP_MULTICAST_IF", followFrom4},
	{unix.IPPROTO_IP, unix.IP_MINTTL, "IP_MINTTL", nil},
	{unix.IPPROTO_IP, unix.IP_OPTIONS, "IP_OPTIONS", nil},
	{unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, "IP_MTU_DISCOVER", followMTU4},
	{unix.IPPROTO_IP, unix.IP_TRANSPARENT, "IP_TRANSPARENT", nil}, // IPV6_TRANSPARENT is the same flag
	{unix.IPPROTO_IP, unix.IP_FREEBIND, "IP_FREEBIND", nil},       // likewise IPV6_FREEBIND
	{unix.IPPROTO_IP, unix.IP_UNICAST_IF, "IP_UNICAST_IF", nil},
	{unix.IPPROTO_IP, unix.IP_LOCAL_PORT_RANGE, "IP_LOCAL_PORT_RANGE", nil},
	{unix.IPPROTO_IP, unix.IP_RECVERR, "IP_RECVERR", nil},
	{unix.IPPROTO_IP, unix.IP_PKTINFO, "IP_PKTINFO", followRecv(RecvPktInfo, "IP_PKTINFO")},
	{unix.IPPROTO_IP, unix.IP_RECVTTL, "IP_RECVTTL", followRecv(RecvTTL, "IP_RECVTTL")},
	{unix.IPPROTO_IP, unix.IP_RECVTOS, "IP_RECVTOS", followRecv(RecvTOS, "IP_RECVTOS")},
	{unix.IPPROTO_IP, unix.IP_RECVOPTS, "IP_RECVOPTS", nil},
	{unix.IPPROTO_IP, unix.IP_RETOPTS, "IP_RETOPTS", nil},
	{unix.IPPROTO_IP, unix.IP_RECVORIGDSTADDR, "IP_RECVORIGDSTADDR", followRecv(RecvOrigDst, "IP_RECVORIGDSTADDR")},
	{unix.IPPROTO_IP, unix.IP_RECVFRAGSIZE, "IP_RECVFRAGSIZE", nil},
	{unix.IPPROTO_IP, unix.IP_PASSSEC, "IP_PASSSEC", nil},
	{unix.IPPROTO_IP, unix.IP_CHECKSUM, "IP_CHECKSUM", nil},

	{unix.IPPROTO_IPV6, unix.IPV6_TCLASS, "IPV6_TCLASS", func(o *Options, v sockValue, _ *sockState) { o.ip.TrafficClass = uint8(v.int()) }},
	{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, "IPV6_UNICAST_HOPS", followHops},
	{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, "IPV6_V6ONLY", func(o *Options, v sockValue, _ *sockState) { o.only6 = v.int() != 0 }},
	{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS, "IPV6_MULTICAST_HOPS", followGroupHops},
	{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP, "IPV6_MULTICAST_LOOP", followLoop6},
	{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, "IPV6_MULTICAST_IF", followLink6},
	{unix.IPPROTO_IPV6, unix.IPV6_MINHOPCOUNT, "IPV6_MINHOPCOUNT", nil},
	{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, "IPV6_MTU_DISCOVER", followMTU6},
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
	{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, "IPV6_RECVPKTINFO", followRecv(RecvPktInfo6, "IPV6_RECVPKTINFO")},
	{unix.IPPROTO_IPV6, unix.IPV6_2292PKTINFO, "IPV6_2292PKTINFO", nil},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, "IPV6_RECVHOPLIMIT", followRecv(RecvHopLimit, "IPV6_RECVHOPLIMIT")},
	{unix.IPPROTO_IPV6, unix.IPV6_2292HOPLIMIT, "IPV6_2292HOPLIMIT", nil},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, "IPV6_RECVTCLASS", followRecv(RecvTClass, "IPV6_RECVTCLASS")},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPOPTS, "IPV6_RECVHOPOPTS", nil},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVDSTOPTS, "IPV6_RECVDSTOPTS", nil},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVRTHDR, "IPV6_RECVRTHDR", nil},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVPATHMTU, "IPV6_RECVPATHMTU", nil},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVORIGDSTADDR, "IPV6_RECVORIGDSTADDR", followRecv(RecvOrigDst6, "IPV6_RECVORIGDSTADDR")},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVFRAGSIZE, "IPV6_RECVFRAGSIZE", nil},
}

// Those that package unix does not have (linux/in6.h).
const (
	ipv6FlowInfo     = 11
	ipv6FlowInfoSend = 33
)

func followLinger(o *Options, v sockValue, _ *sockState) {
	sec := -1
	if len(v) == 8 && v.int() != 0 { // l_onoff, l_linger
		sec = v[4:].int()
	}
	o.Linger = &sec
}

func followKeepAlive(o *Options, _ sockValue, s *sockState) {
	o.keepAlive = &tcp.KeepAlive{
		Enable:   s.get(unix.SOL_SOCKET, unix.SO_KEEPALIVE).int() != 0,
		Idle:     s.get(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE).duration(time.Second),
		Interval: s.get(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL).duration(time.Second),
		Count:    s.get(unix.IPPROTO_TCP, unix.TCP_KEEPCNT).int(),
	}
}

func followPacing(o *Options, v sockValue, _ *sockState) {
	if rate := v.uint64(); rate != math.MaxUint64 && rate != math.MaxUint32 {
		o.pacing = rate
	}
}

// followPriority leaves SO_PRIORITY to the kernel: queueing disciplines do not see
// accelerated packets. IP_TOS sets a priority too (the kernel's rt_tos2priority),
// which needs no queueing discipline.
func followPriority(o *Options, v sockValue, s *sockState) {
	ofTOS := [...]int{0, 2, 6, 4}[s.get(unix.IPPROTO_IP, unix.IP_TOS).int()>>3&3]
	if v.int() != ofTOS && v.int() != groupPriority() {
		o.leave("SO_PRIORITY")
	}
}

// followWindowClamp notes the clamp as a bound of the receive buffer, whose size
// bounds the window.
func followWindowClamp(o *Options, v sockValue, _ *sockState) {
	const least = 4096 // the least size of such a buffer
	if v.int() < least {
		o.leave("TCP_WINDOW_CLAMP")
		return
	}
	o.windowClamp = v.int()
}

func followCongestion(o *Options, v sockValue, _ *sockState) {
	name := strings.TrimRight(string(v), "\x00")
	if o.congestion = CongestionName(name); !tcp.ValidCongestion(o.congestion) {
		o.Kernel = "a Control hook chose the kernel's congestion control " + name
	}
}

// followHops leaves a hop limit of 0 to the kernel: such packets do not leave this
// host.
func followHops(o *Options, v sockValue, _ *sockState) {
	if o.ip.HopLimit = uint8(v.int()); o.ip.HopLimit == 0 {
		o.leave("IPV6_UNICAST_HOPS")
	}
}

// CongestionName is our name of a congestion control of the kernel's.
func CongestionName(kernel string) string {
	if kernel == "reno" {
		return "newreno"
	}
	return kernel
}

// kernelCongestion is the kernel's name of a congestion control of ours.
func kernelCongestion(ours string) string {
	if ours == "newreno" {
		return "reno"
	}
	return ours
}
