package engine

import (
	"errors"
	"fmt"
	"math"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/tcp"
)

// TCPShadow is a kernel socket beside an open connection of ours, which is never
// connected. A program finds there the options that the connection has, and those
// that it sets are followed.
type TCPShadow struct {
	c    *stack.TCPConn
	mu   sync.Mutex
	file *os.File // nil: closed
}

// NewTCPShadow returns a shadow of c, of an IPv6 socket or of one of IPv4. It is of
// the process's namespace: no packet ever leaves by it.
func NewTCPShadow(c *stack.TCPConn, six bool) (*TCPShadow, error) {
	k := sockKind{unix.AF_INET, unix.SOCK_STREAM, 0}
	if six {
		k.family = unix.AF_INET6
	}
	fd, err := unix.Socket(k.family, k.typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, k.proto)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	return &TCPShadow{c: c, file: os.NewFile(uintptr(fd), "shadow")}, nil
}

// AskedBuffers are the sizes that methods of net have asked for since the last call of
// Control, in bytes; nil: none.
type AskedBuffers struct{ Receive, Send *int }

// show gives the shadow the options that the connection has: methods of net set
// them too. Buffers whose sizes nobody asked for stay the kernel's default. What the
// kernel refuses, as a congestion control that it does not have, is not shown.
func (s *TCPShadow) show(fd int, b AskedBuffers) {
	if b.Receive != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, *b.Receive)
	}
	if b.Send != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, *b.Send)
	}
	o, err := s.c.Options()
	if err != nil {
		return // it has ended: what it had is still there
	}
	set := func(level, opt, v int) { _ = unix.SetsockoptInt(fd, level, opt, v) }
	set(unix.IPPROTO_TCP, unix.TCP_NODELAY, flag(o.NoDelay))
	set(unix.SOL_SOCKET, unix.SO_KEEPALIVE, flag(o.KeepAlive.Enable))
	set(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, seconds(o.KeepAlive.Idle))
	set(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, seconds(o.KeepAlive.Interval))
	set(unix.IPPROTO_TCP, unix.TCP_KEEPCNT, o.KeepAlive.Count)
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: int32(flag(o.Linger >= 0)), Linger: int32(max(o.Linger, 0))})
	set(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(o.UserTimeout/time.Millisecond))
	_ = unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, kernelCongestion(o.Congestion))
	set(unix.IPPROTO_TCP, unix.TCP_MAXSEG, o.SendMSS)
	rate := o.MaxPacingRate
	if rate == 0 {
		rate = math.MaxUint64
	}
	_ = unix.SetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE, rate)
	level, tos, ttl := unix.IPPROTO_IPV6, unix.IPV6_TCLASS, unix.IPV6_UNICAST_HOPS
	if s.four() {
		level, tos, ttl = unix.IPPROTO_IP, unix.IP_TOS, unix.IP_TTL
	}
	set(level, tos, int(o.TOS))
	if o.TTL != 0 {
		set(level, ttl, int(o.TTL))
	}
}

func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// seconds are whole ones, at least one.
func seconds(d time.Duration) int { return max(int(d.Round(time.Second)/time.Second), 1) }

func (s *TCPShadow) do(f func(fd int)) error {
	raw, err := s.file.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) { f(int(fd)) })
}

// Control calls f with the shadow, and follows the options that f has changed. The
// error of one that only the kernel's connections have is an ErrUnsupported.
func (s *TCPShadow) Control(b AskedBuffers, f func(fd uintptr)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return s.c.MayWrite() // the error of a closed connection
	}
	var was, now *sockState
	var noDelayWas, noDelay int // which net sets by itself, so that sockopts leave it out
	if err := s.do(func(fd int) {
		s.show(fd, b)
		was = stateOf(fd, kindOf(fd))
		noDelayWas, _ = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY)
		f(uintptr(fd))
		now = stateOf(fd, kindOf(fd))
		noDelay, _ = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY)
	}); err != nil {
		return err
	}
	var errs []error
	if noDelay != noDelayWas {
		errs = append(errs, s.c.SetNoDelay(noDelay != 0))
	}
	for i := range sockopts {
		if now.values[i] != was.values[i] {
			errs = append(errs, s.follow(&sockopts[i], now.values[i], now))
		}
	}
	return errors.Join(errs...)
}

// follow sets in the connection the option x, whose value is v now.
func (s *TCPShadow) follow(x *sockopt, v sockValue, now *sockState) error {
	o := Options{by: "the program"}
	if x.follow == nil {
		o.leave(x.name)
	} else {
		x.follow(&o, v, now)
	}
	var err error
	switch x.name {
	case "SO_RCVBUF":
		err = s.c.SetReadBuffer(o.rcvBuf)
	case "SO_SNDBUF":
		err = s.c.SetWriteBuffer(o.sndBuf)
	case "SO_LINGER":
		err = s.c.SetLinger(*o.Linger)
	case "SO_KEEPALIVE", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT":
		err = s.c.SetKeepAlive(*o.keepAlive)
	case "SO_MAX_PACING_RATE":
		err = s.c.SetMaxPacingRate(o.pacing)
	case "TCP_USER_TIMEOUT":
		err = s.c.SetUserTimeout(o.userTimeout)
	case "TCP_CONGESTION":
		if tcp.ValidCongestion(o.congestion) {
			err = s.c.SetCongestion(o.congestion)
		}
	case "TCP_WINDOW_CLAMP", "TCP_LINGER2":
		o.leave(x.name)
	case "TCP_FASTOPEN", "TCP_FASTOPEN_CONNECT", "TCP_FASTOPEN_NO_COOKIE", "IPV6_V6ONLY":
		o.leave(x.name) // the kernel refuses them once a connection is open
	case "TCP_MAXSEG", "TCP_SYNCNT", "TCP_DEFER_ACCEPT", "TCP_FASTOPEN_KEY":
		// They are of the handshake, which is over. The kernel's connection takes them,
		// and does nothing with them (do_tcp_setsockopt, net/ipv4/tcp.c).
	case "IP_TOS":
		if s.four() {
			err = s.c.SetTOS(o.ip.TOS)
		}
	case "IP_TTL":
		if s.four() {
			err = s.c.SetTTL(o.ip.TTL)
		}
	case "IPV6_TCLASS":
		if !s.four() {
			err = s.c.SetTOS(o.ip.TrafficClass)
		}
	case "IPV6_UNICAST_HOPS":
		if !s.four() && o.ip.HopLimit != 0 {
			err = s.c.SetTTL(o.ip.HopLimit)
		}
	}
	if o.Kernel != "" {
		return fmt.Errorf("onload: %s, which an accelerated connection cannot follow: %w", o.Kernel, errors.ErrUnsupported)
	}
	return err
}

// four reports whether the connection's packets are of IPv4; options of the other
// family are not theirs.
func (s *TCPShadow) four() bool { return s.c.RemoteAddr().Addr().Is4() }

// Close closes the shadow.
func (s *TCPShadow) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	f := s.file
	s.file = nil
	return f.Close()
}
