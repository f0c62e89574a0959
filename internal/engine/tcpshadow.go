package engine

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/tcp"
)

// TCPShadow is a kernel socket beside an open connection of ours, which is never
// connected: the options that a program sets on it are followed.
type TCPShadow struct {
	c    *stack.TCPConn
	mu   sync.Mutex
	file *os.File // nil: closed
	last *sockState
	// TCP_NODELAY, which net sets by itself and sockopts therefore leave out.
	noDelay int
}

// NewTCPShadow returns a shadow of c with net's defaults, of an IPv6 socket or of
// one of IPv4. It is of the process's namespace: no packet ever leaves by it.
func NewTCPShadow(c *stack.TCPConn, six bool) (*TCPShadow, error) {
	k := sockKind{unix.AF_INET, unix.SOCK_STREAM, 0}
	if six {
		k.family = unix.AF_INET6
	}
	ka, err := c.KeepAlive()
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(k.family, k.typ|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, k.proto)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	s := &TCPShadow{c: c, file: os.NewFile(uintptr(fd), "shadow"), noDelay: 1}
	err = s.do(func(fd int) {
		set := func(level, opt, v int) { _ = unix.SetsockoptInt(fd, level, opt, v) } // getsockopt would show the default
		set(unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		if ka.Enable {
			set(unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
		}
		set(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, seconds(ka.Idle))
		set(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, seconds(ka.Interval))
		set(unix.IPPROTO_TCP, unix.TCP_KEEPCNT, ka.Count)
		s.last = stateOf(fd, k)
	})
	if err != nil {
		_ = s.file.Close()
		return nil, err
	}
	return s, nil
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
func (s *TCPShadow) Control(f func(fd uintptr)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return s.c.MayWrite() // the error of a closed connection
	}
	now, noDelay := s.last, 0
	if err := s.do(func(fd int) {
		f(uintptr(fd))
		now = stateOf(fd, kindOf(fd))
		noDelay, _ = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY)
	}); err != nil {
		return err
	}
	var errs []error
	if noDelay != s.noDelay {
		errs = append(errs, s.c.SetNoDelay(noDelay != 0))
	}
	for i := range sockopts {
		if now.values[i] != s.last.values[i] {
			errs = append(errs, s.follow(&sockopts[i], now.values[i], now))
		}
	}
	s.last, s.noDelay = now, noDelay
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
