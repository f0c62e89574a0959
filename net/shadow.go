package onload

import (
	"context"
	"math"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/tcp"
)

// options are what a Control hook has set on a socket of the kernel's, as far
// as a connection of ours can follow.
type options struct {
	rcvBuf, sndBuf int // bytes, 0: not set
	userTimeout    time.Duration
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

	kernel string // why only the kernel can follow
}

// shadow has the hook see a socket of the kernel's that is never connected,
// and returns what it did there.
func (e *Engine) shadow(ctx context.Context, hook func(context.Context, string, string, syscall.RawConn) error, network, address string) (o options, err error) {
	family, typ := unix.AF_INET6, unix.SOCK_STREAM
	if strings.HasSuffix(network, "4") {
		family = unix.AF_INET
	}
	if isUDP(network) {
		typ = unix.SOCK_DGRAM
	}
	fd := -1
	err = e.ns.Do(func() error {
		fd, err = unix.Socket(family, typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return os.NewSyscallError("socket", err)
	})
	if err != nil {
		return o, err
	}
	f := os.NewFile(uintptr(fd), network)
	defer f.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		return o, err
	}
	var before, after sockState
	if err := raw.Control(func(fd uintptr) { before = stateOf(int(fd)) }); err != nil {
		return o, err
	}
	if err := hook(ctx, network, address, raw); err != nil {
		return o, err
	}
	if err := raw.Control(func(fd uintptr) { after = stateOf(int(fd)) }); err != nil {
		return o, err
	}
	return before.changes(after), nil
}

// twinOptions are the options that a ListenConfig's hook has set on the
// kernel's socket c, found by comparing it with a fresh one.
func (e *Engine) twinOptions(c syscall.Conn, network string) (o options, err error) {
	var fresh sockState
	_, err = e.shadow(context.Background(), func(_ context.Context, _, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { fresh = stateOf(int(fd)) })
	}, network, "")
	if err != nil {
		return o, err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return o, err
	}
	err = raw.Control(func(fd uintptr) {
		now := stateOf(int(fd))
		now.bound = fresh.bound
		o = fresh.changes(now)
	})
	return o, err
}

// sockState is the state of a socket's options. What a kernel does not know
// stays zero.
type sockState struct {
	rcvBuf, sndBuf                   int
	userTimeout                      int // ms
	deferAccept                      int // s
	fastOpen, fastConnect            int
	noCookie, synRetries             int
	fastKeys                         tcp.FastOpenKeys
	keepAlive, idle, interval, count int
	linger                           unix.Linger
	congestion, device               string
	pacing                           uint64
	mark                             int
	bound                            bool
}

func stateOf(fd int) (s sockState) {
	get := func(level, opt int) int {
		v, err := unix.GetsockoptInt(fd, level, opt)
		if err != nil {
			return 0
		}
		return v
	}
	s.rcvBuf = get(unix.SOL_SOCKET, unix.SO_RCVBUF)
	s.sndBuf = get(unix.SOL_SOCKET, unix.SO_SNDBUF)
	s.keepAlive = get(unix.SOL_SOCKET, unix.SO_KEEPALIVE)
	s.mark = get(unix.SOL_SOCKET, unix.SO_MARK)
	s.userTimeout = get(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
	s.deferAccept = get(unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT)
	s.fastOpen = get(unix.IPPROTO_TCP, unix.TCP_FASTOPEN)
	s.fastConnect = get(unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT)
	s.noCookie = get(unix.IPPROTO_TCP, unix.TCP_FASTOPEN_NO_COOKIE)
	s.fastKeys = fastOpenKeys(fd)
	s.synRetries = get(unix.IPPROTO_TCP, unix.TCP_SYNCNT)
	s.idle = get(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE)
	s.interval = get(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL)
	s.count = get(unix.IPPROTO_TCP, unix.TCP_KEEPCNT)
	if l, err := unix.GetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER); err == nil {
		s.linger = *l
	}
	if v, err := unix.GetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION); err == nil {
		s.congestion = strings.TrimRight(v, "\x00")
	}
	if v, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE); err == nil && v != math.MaxUint64 {
		s.pacing = v
	}
	if v, err := unix.GetsockoptString(fd, unix.SOL_SOCKET, unix.SO_BINDTODEVICE); err == nil {
		s.device = strings.TrimRight(v, "\x00")
	}
	switch a, _ := unix.Getsockname(fd); a := a.(type) {
	case *unix.SockaddrInet4:
		s.bound = a.Port != 0 || a.Addr != [4]byte{}
	case *unix.SockaddrInet6:
		s.bound = a.Port != 0 || a.Addr != [16]byte{}
	}
	return s
}

// changes are the options that led from s to t.
func (s sockState) changes(t sockState) (o options) {
	switch {
	case t.mark != s.mark:
		o.kernel = "a Control hook chose a mark"
	case t.device != s.device:
		o.kernel = "a Control hook chose a device"
	case t.bound && !s.bound:
		o.kernel = "a Control hook bound the socket"
	}
	// The kernel answers twice the bytes that were asked for.
	if t.rcvBuf != s.rcvBuf {
		o.rcvBuf = t.rcvBuf / 2
	}
	if t.sndBuf != s.sndBuf {
		o.sndBuf = t.sndBuf / 2
	}
	if t.userTimeout != s.userTimeout {
		o.userTimeout = time.Duration(t.userTimeout) * time.Millisecond
	}
	if t.deferAccept != s.deferAccept {
		o.deferAccept = time.Duration(t.deferAccept) * time.Second
	}
	if t.fastOpen != s.fastOpen {
		o.fastOpen = t.fastOpen
	}
	o.fastConnect = t.fastConnect != s.fastConnect
	o.noCookie = t.noCookie != s.noCookie
	if t.fastKeys != s.fastKeys {
		o.fastKeys = t.fastKeys
	}
	if t.synRetries != s.synRetries {
		o.synRetries = t.synRetries
	}
	if t.keepAlive != s.keepAlive || t.idle != s.idle || t.interval != s.interval || t.count != s.count {
		o.keepAlive = &tcp.KeepAlive{
			Enable:   t.keepAlive != 0,
			Idle:     time.Duration(t.idle) * time.Second,
			Interval: time.Duration(t.interval) * time.Second,
			Count:    t.count,
		}
	}
	if t.linger != s.linger {
		sec := -1
		if t.linger.Onoff != 0 {
			sec = int(t.linger.Linger)
		}
		o.linger = &sec
	}
	if t.congestion != s.congestion {
		if o.congestion = ourCongestion(t.congestion); !tcp.ValidCongestion(o.congestion) {
			o.kernel = "a Control hook chose the kernel's congestion control " + t.congestion
		}
	}
	if t.pacing != s.pacing {
		o.pacing = t.pacing
	}
	return o
}

// apply sets the options in c. Keepalive is the Dialer's, unless that leaves
// it alone.
func (o *options) apply(c *tcp.Config, keepAlive bool) {
	if o.rcvBuf > 0 {
		c.RcvBuf = o.rcvBuf
	}
	if o.sndBuf > 0 {
		c.SndBuf = o.sndBuf
	}
	if o.userTimeout > 0 {
		c.UserTimeout = o.userTimeout
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
