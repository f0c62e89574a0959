// Package claim proves that a port is a process's: by a socket of the kernel's that
// the process has bound, and passed to the broker.
//
// The kernel has checked the right to bind, and gives the port to nobody else while
// the socket has it. But both ends share the socket: a process may rid it of its port
// later, or let others bind beside it, while the broker still steers the port. So a
// Claim holds the port itself. For TCP that is a socket of the broker's own, bound to
// the same address. For UDP a second socket would receive datagrams; there the
// passed one is kept, and was seen not to lose its port.
package claim

import (
	"fmt"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Claim is a proven port. The port stays taken until Close.
type Claim struct {
	// Proto is IPPROTO_TCP or IPPROTO_UDP. Local is where the socket is bound; the
	// zero Addr stands for a wildcard of both families.
	Proto uint8
	Local netip.AddrPort

	mu     sync.Mutex
	socket int  // holds the port; -1 after Close
	shared bool // between Share, and Renew or Unshare
}

// Error is a refusal. It unwraps to an errno.
type Error struct {
	Why   string // in words that follow "the socket"
	Errno unix.Errno
}

func (e *Error) Error() string { return "the socket " + e.Why }

// Unwrap returns the errno.
func (e *Error) Unwrap() error { return e.Errno }

func refuse(errno unix.Errno, format string, args ...any) error {
	return &Error{fmt.Sprintf(format, args...), errno}
}

// AnyUser is for a port that was proven before, and has been steered since: the connections
// of its own listener go on.
const AnyUser = ^uint32(0)

// Prove returns the port of a socket. It takes fd over, also in case of an error, which
// is an *Error where the socket proves nothing. cookie is that of
// the network namespace whose ports count (NamespaceCookie), in which the calling thread
// has to be. uid is the user that claims, or AnyUser. devices are the indices of the interfaces
// whose packets count. It takes CAP_NET_ADMIN there.
func Prove(fd int, cookie uint64, uid uint32, devices ...int) (*Claim, error) {
	c, err := prove(fd, cookie, uid, devices)
	if err != nil || c.socket != fd {
		_ = unix.Close(fd)
	}
	if err != nil {
		return nil, err
	}
	return c, nil
}

func prove(fd int, cookie uint64, uid uint32, devices []int) (*Claim, error) {
	s, err := inspect(fd, cookie)
	if err != nil {
		return nil, err
	}
	c := &Claim{Proto: s.proto, Local: s.local(), socket: fd}
	if s.proto == unix.IPPROTO_UDP {
		return c, s.keepsPort()
	}
	if uid != AnyUser {
		if err := s.alone(uid, devices); err != nil {
			return c, err
		}
	}
	c.socket, err = s.hold()
	return c, err
}

// Close lets the port go. By then nothing may be steered to the process any more.
func (c *Claim) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.socket < 0 {
		return os.ErrClosed
	}
	err := unix.Close(c.socket)
	c.socket = -1
	return err
}

// NamespaceCookie returns the number of the calling thread's network namespace
// (SO_NETNS_COOKIE, Linux 5.14), which no later namespace gets.
func NamespaceCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	return cookie, os.NewSyscallError("getsockopt SO_NETNS_COOKIE", err)
}

// socket is what a passed socket says of itself.
type socket struct {
	fd       int
	family   int
	proto    uint8
	only6    bool
	sa       unix.Sockaddr
	at       netip.AddrPort
	listens  bool
	reusable bool // SO_REUSEADDR
}

// inspect refuses sockets that prove nothing.
func inspect(fd int, cookie uint64) (*socket, error) {
	option := func(level, name int) int {
		v, err := unix.GetsockoptInt(fd, level, name)
		if err != nil {
			return -1
		}
		return v
	}
	s := &socket{fd: fd, family: option(unix.SOL_SOCKET, unix.SO_DOMAIN)}
	if s.family != unix.AF_INET && s.family != unix.AF_INET6 {
		return nil, refuse(unix.EPROTONOSUPPORT, "is neither of IPv4 nor of IPv6")
	}
	switch typ, proto := option(unix.SOL_SOCKET, unix.SO_TYPE), option(unix.SOL_SOCKET, unix.SO_PROTOCOL); {
	case typ == unix.SOCK_STREAM && (proto == unix.IPPROTO_TCP || proto == unix.IPPROTO_MPTCP):
		s.proto = unix.IPPROTO_TCP
	case typ == unix.SOCK_DGRAM && proto == unix.IPPROTO_UDP:
		s.proto = unix.IPPROTO_UDP
	default:
		return nil, refuse(unix.EPROTONOSUPPORT, "is neither of TCP nor of UDP")
	}
	if c, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); err != nil || c != cookie {
		return nil, refuse(unix.EXDEV, "is of another network namespace than the interface")
	}
	if option(unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX) != 0 {
		return nil, refuse(unix.EINVAL, "is bound to a device")
	}
	if option(unix.SOL_SOCKET, unix.SO_REUSEPORT) != 0 {
		return nil, refuse(unix.EADDRINUSE, "shares its port (SO_REUSEPORT)")
	}
	if s.proto == unix.IPPROTO_TCP {
		s.listens = option(unix.SOL_SOCKET, unix.SO_ACCEPTCONN) == 1
	}
	if !s.idle() {
		return nil, refuse(unix.EISCONN, "is connected")
	}
	s.only6 = s.family == unix.AF_INET6 && option(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY) == 1
	s.reusable = option(unix.SOL_SOCKET, unix.SO_REUSEADDR) != 0
	return s, s.readName()
}

// idle reports whether the socket has never been connected, or is no more. A socket
// that is being connected has no peer's name either, hence the state.
func (s *socket) idle() bool {
	if _, err := unix.Getpeername(s.fd); err != unix.ENOTCONN {
		return false
	}
	if s.proto == unix.IPPROTO_UDP || s.listens {
		return true
	}
	const closed = 7 // TCP_CLOSE of linux/tcp_states.h
	info, err := unix.GetsockoptTCPInfo(s.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	return err == nil && info.State == closed
}

// readName reads the address that the socket is bound to.
func (s *socket) readName() error {
	var err error
	if s.sa, err = unix.Getsockname(s.fd); err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	switch sa := s.sa.(type) {
	case *unix.SockaddrInet4:
		s.at = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		if sa.ZoneId != 0 {
			return refuse(unix.EINVAL, "is bound to a link-local address")
		}
		s.at = netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	if s.at.Port() == 0 {
		return refuse(unix.EINVAL, "is not bound to a port")
	}
	return nil
}

// local is at as ports are claimed: without IPv4-mapped addresses.
func (s *socket) local() netip.AddrPort {
	a := s.at.Addr().Unmap()
	if s.family == unix.AF_INET6 && a == netip.IPv6Unspecified() && !s.only6 {
		a = netip.Addr{}
	}
	return netip.AddrPortFrom(a, s.at.Port())
}
