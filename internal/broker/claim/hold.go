package claim

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// keepsPort refuses a UDP socket whose port it can lose. The kernel takes a port that it
// chose itself back when the socket is disconnected (connect(2) with AF_UNSPEC:
// without SOCK_BINDPORT_LOCK, __udp_disconnect in net/ipv4/udp.c). One that was asked
// for by number stays, so disconnecting a socket that is not connected does nothing.
func (s *socket) keepsPort() error {
	if s.reusable {
		return refuse(unix.EADDRINUSE, "shares its port (SO_REUSEADDR)")
	}
	was := s.at
	if err := disconnect(s.fd); err != nil {
		return os.NewSyscallError("connect", err)
	}
	if err := s.readName(); err != nil || s.at != was {
		return refuse(unix.EINVAL, "has a port that the kernel chose, and would lose it: bind it by number")
	}
	return nil
}

// hold returns a socket of our own that is bound where s is, a TCP socket. The kernel
// refuses it unless both may share the port, or it is told not to look. So hold has to
// see that s has the port, not another socket.
func (s *socket) hold() (fd int, err error) {
	if s.listens {
		return s.holdListening()
	}
	// With SO_REUSEADDR the kernel lets a second socket in if all that have the port
	// have the option too, and none listens (inet_bind_conflict of
	// net/ipv4/inet_connection_sock.c). If ours is refused while s has not the option, and
	// let in while s has it, then s has the port, and nobody has it without the option.
	if err := s.setReuse(false); err != nil {
		return -1, err
	}
	fd, err = s.bindOwn(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err == nil {
		_ = unix.Close(fd)
		return -1, refuse(unix.EADDRINUSE, "has lost its port, or others can bind it (SO_REUSEADDR)")
	}
	if err := s.setReuse(true); err != nil {
		return -1, err
	}
	fd, err = s.bindOwn(unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if e := s.setReuse(s.reusable); err == nil && e != nil {
		_ = unix.Close(fd)
		return -1, e
	}
	if err != nil {
		return -1, refuse(unix.EADDRINUSE, "is not the one that has its port: %v", err)
	}
	// From now on no other socket is let in, whatever options s gets.
	return closedUnless(fd, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 0))
}

// holdListening is hold for a socket that listens, which the kernel lets nobody share with. A
// socket under repair is not looked at (SK_FORCE_REUSE), so ours gets the port whoever has
// it. That s has it is seen afterwards, when nobody is let in any more.
func (s *socket) holdListening() (fd int, err error) {
	if fd, err = s.bindOwn(unix.IPPROTO_TCP, unix.TCP_REPAIR, 1); err != nil {
		return -1, fmt.Errorf("the broker cannot hold the port: %w", err)
	}
	const off = -1 // TCP_REPAIR_OFF_NO_WP of linux/tcp.h, without a window probe
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, off); err != nil {
		_ = unix.Close(fd)
		return -1, os.NewSyscallError("setsockopt TCP_REPAIR", err)
	}
	return closedUnless(fd, s.listensThere())
}

// listensThere refuses a socket that does not listen where it says, while a socket of ours
// has the port, too. SO_ACCEPTCONN proves nothing: a socket that has lost its port, and cannot
// have it back, is in the state LISTEN while the kernel looks for another one, with the old
// name. listen(2) waits for that: it changes nothing if s listens (Sacked is its backlog), and
// otherwise fails, or gives it another name, since the port is ours by now.
func (s *socket) listensThere() error {
	was := s.at
	info, err := unix.GetsockoptTCPInfo(s.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return os.NewSyscallError("getsockopt TCP_INFO", err)
	}
	if err := unix.Listen(s.fd, int(info.Sacked)); err != nil {
		return refuse(unix.EINVAL, "listens no more: %v", err)
	}
	if err := s.readName(); err != nil || s.at != was {
		return refuse(unix.EINVAL, "has moved to another port")
	}
	return nil
}

// bindOwn binds a TCP socket of our own where s is bound, with an option set.
func (s *socket) bindOwn(level, option, value int) (fd int, err error) {
	fd, err = unix.Socket(s.family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	err = unix.SetsockoptInt(fd, level, option, value)
	if s.family == unix.AF_INET6 && err == nil {
		only := 0
		if s.only6 {
			only = 1
		}
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only)
	}
	// The address is the host's, or was when the process bound its socket.
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_FREEBIND, 1)
	}
	if err == nil {
		err = unix.Bind(fd, s.sa)
	}
	return closedUnless(fd, err)
}

func (s *socket) setReuse(on bool) error {
	v := 0
	if on {
		v = 1
	}
	return os.NewSyscallError("setsockopt SO_REUSEADDR", unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, v))
}

// closedUnless returns fd if err is nil, else closes it.
func closedUnless(fd int, err error) (int, error) {
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Lock has a UDP socket keep its port, which the kernel may have chosen, for Prove: it is
// bound anew, by number. Another process may take the port in between; then the socket is
// bound nowhere, and the error is EADDRINUSE.
func Lock(fd int) error {
	at, err := unix.Getsockname(fd)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	if err := disconnect(fd); err != nil {
		return os.NewSyscallError("connect", err)
	}
	if err := unix.Bind(fd, at); err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: it is bound still
		return os.NewSyscallError("bind", err)
	}
	return nil
}
