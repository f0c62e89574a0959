package onload

import (
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/tcp"
)

// options are what a Control hook has set on a socket of the kernel's, as far
// as a connection of ours can follow.
type options struct {
	rcvBuf, sndBuf int // bytes, 0: not set
	windowClamp    int // likewise
	maxSeg         int
	userTimeout    time.Duration
	finWait2       time.Duration
	deferAccept    time.Duration
	fastOpen       int  // of a listener
	fastConnect    bool // of a dialer
	fastKeys       tcp.FastOpenKeys
	noCookie       bool // Fast Open does without
	synRetries     int
	keepAlive      *tcp.KeepAlive
	linger         *int
	congestion     string
	pacing         uint64 // bytes per second
	ip             stack.IPOptions

	reuseAddr, reusePort bool
	family6, only6       bool // of a ListenConfig's socket

	kernel string // why only the kernel can follow
}

// leave has the kernel carry the connection, for the option of that name, the
// first of them.
func (o *options) leave(name string) {
	if o.kernel == "" {
		o.kernel = "a Control hook set " + name
	}
}

// shared tells whether a dialer's port may be others' too.
func (o *options) shared() bool { return o.reuseAddr || o.reusePort }

// share joins the group of a bound socket with SO_REUSEPORT, the kernel's at a;
// leave is for when it closes.
func (o *options) share(e *Engine, network string, a netip.AddrPort) (leave func()) {
	if !o.reusePort || o.kernel != "" {
		return func() {}
	}
	network = familyOf(network, netip.IPv4Unspecified())
	if a = netip.AddrPortFrom(a.Addr().Unmap(), a.Port()); o.family6 {
		network = familyOf(network, netip.IPv6Unspecified())
		a = netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()), a.Port())
	}
	leave, ok := e.sharers.join(e, network, a)
	if !ok {
		o.kernel = sharedOutside
	}
	return leave
}

// apply sets the options in c. Keepalive is the Dialer's, unless that leaves
// it alone.
func (o *options) apply(c *tcp.Config, keepAlive bool) {
	if o.rcvBuf > 0 {
		c.RcvBuf = o.rcvBuf
	}
	if o.windowClamp > 0 {
		if c.RcvBuf <= 0 {
			c.RcvBuf = tcp.DefaultBuf
		}
		c.RcvBuf = min(c.RcvBuf, o.windowClamp)
	}
	if o.sndBuf > 0 {
		c.SndBuf = o.sndBuf
	}
	if o.maxSeg > 0 {
		c.MaxSeg = o.maxSeg
	}
	if o.userTimeout > 0 {
		c.UserTimeout = o.userTimeout
	}
	if o.finWait2 != 0 {
		c.FinWait2 = o.finWait2
	}
	if o.deferAccept > 0 {
		c.DeferAccept = o.deferAccept
	}
	if o.fastOpen > 0 {
		c.FastOpen = o.fastOpen
	}
	if o.fastConnect {
		c.FastOpenConnect = true
	}
	if o.fastKeys.N > 0 {
		c.FastOpenKeys = o.fastKeys
	}
	if o.noCookie {
		c.FastOpenNoCookie = true
	}
	if o.synRetries > 0 {
		c.SYNRetries = o.synRetries
	}
	if o.congestion != "" {
		c.Congestion = o.congestion
	}
	if o.pacing > 0 {
		c.MaxPacingRate = o.pacing
	}
	if keepAlive && o.keepAlive != nil {
		c.KeepAlive = *o.keepAlive
	}
}

// net's defaults of keepalive.
const (
	keepAliveIdle     = 15 * time.Second
	keepAliveInterval = 15 * time.Second
	keepAliveCount    = 9
)

// mergeKeepAlive is ka after SetKeepAliveConfig(c): 0 is net's default, a
// negative value leaves what was.
func mergeKeepAlive(ka tcp.KeepAlive, c net.KeepAliveConfig) tcp.KeepAlive {
	ka.Enable = c.Enable
	ka.Idle = mergeDuration(ka.Idle, c.Idle, keepAliveIdle)
	ka.Interval = mergeDuration(ka.Interval, c.Interval, keepAliveInterval)
	if c.Count == 0 {
		ka.Count = keepAliveCount
	} else if c.Count > 0 {
		ka.Count = c.Count
	}
	return ka
}

func mergeDuration(old, d, def time.Duration) time.Duration {
	switch {
	case d == 0:
		return def
	case d < 0:
		return old
	}
	// The kernel counts seconds.
	return (d + time.Second - 1).Truncate(time.Second)
}

// checkKeepAlive refuses what the kernel refuses (tcp_sock_set_keepidle).
func checkKeepAlive(ka tcp.KeepAlive) error {
	const most = 32767 * time.Second
	if ka.Idle > most || ka.Interval > most || ka.Count > 127 {
		return syscall.EINVAL
	}
	return nil
}
