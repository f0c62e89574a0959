package rung

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// spin uses the kernel's sockets like a C program with a processor of its own:
// non-blocking, in a loop of raw system calls, of which the Go scheduler knows
// nothing. IPv4 only.
type spin struct{ congestion string }

func (spin) Path(any) string { return "kernel, spinning" }
func (spin) Counters() any   { return nil }
func (spin) Close() error    { return nil }

// Serial implements load.Serial.
func (spin) Serial() {}

func sockaddr(addr string) (unix.Sockaddr, error) {
	a, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}, nil
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	if a, ok := sa.(*unix.SockaddrInet4); ok {
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	}
	return netip.AddrPort{}
}

func open(typ int) (*socket, error) {
	fd, err := unix.Socket(unix.AF_INET, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	return &socket{fd: fd, tcp: typ == unix.SOCK_STREAM}, nil
}

func (k spin) Dial(network, addr string) (net.Conn, error) {
	if network != "tcp" {
		return nil, fmt.Errorf("spin: dial %s: %w", network, net.UnknownNetworkError(network))
	}
	sa, err := sockaddr(addr)
	if err != nil {
		return nil, err
	}
	s, err := open(unix.SOCK_STREAM)
	if err != nil {
		return nil, err
	}
	if err := setCongestion(s.fd, k.congestion); err != nil {
		s.Close()
		return nil, err
	}
	if err := s.connect(sa); err != nil {
		s.Close()
		return nil, os.NewSyscallError("connect", err)
	}
	return s, nil
}

// connect spins until the handshake is over.
func (s *socket) connect(sa unix.Sockaddr) error {
	err := unix.Connect(s.fd, sa)
	for end := time.Now().Add(2 * time.Second); err == unix.EINPROGRESS || err == unix.EALREADY; {
		if time.Now().After(end) {
			return unix.ETIMEDOUT
		}
		// A second connect returns the state: EISCONN, EALREADY or the error.
		if err = unix.Connect(s.fd, sa); err == unix.EISCONN {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	return unix.SetsockoptInt(s.fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
}

func (k spin) Listen(_, addr string) (net.Listener, error) {
	s, err := bound(unix.SOCK_STREAM, addr)
	if err != nil {
		return nil, err
	}
	err = setCongestion(s.fd, k.congestion) // inherited
	if err == nil {
		err = os.NewSyscallError("listen", unix.Listen(s.fd, unix.SOMAXCONN))
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return listener{s}, nil
}

func bound(typ int, addr string) (*socket, error) {
	sa, err := sockaddr(addr)
	if err != nil {
		return nil, err
	}
	s, err := open(typ)
	if err != nil {
		return nil, err
	}
	if err := unix.Bind(s.fd, sa); err != nil {
		s.Close()
		return nil, os.NewSyscallError("bind", err)
	}
	return s, nil
}

func (spin) ListenPacket(_, addr string) (net.PacketConn, error) {
	return bound(unix.SOCK_DGRAM, addr)
}

type listener struct{ *socket }

func (l listener) Addr() net.Addr { return l.LocalAddr() }

func (l listener) Accept() (net.Conn, error) {
	for {
		fd, _, err := unix.Accept4(l.fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case err == nil:
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
				unix.Close(fd)
				return nil, err
			}
			return &socket{fd: fd, tcp: true}, nil
		case l.closed.Load():
			return nil, net.ErrClosed
		case err != unix.EAGAIN && err != unix.EINTR && err != unix.ECONNABORTED:
			return nil, os.NewSyscallError("accept4", err)
		}
	}
}

// socket is a connection or a datagram socket.
type socket struct {
	fd      int
	tcp     bool
	closed  atomic.Bool
	read    atomic.Int64 // deadlines, Unix ns, 0 for none
	written atomic.Int64
}

// again calls f until it returns something other than EAGAIN.
func (s *socket) again(deadline *atomic.Int64, f func() (uintptr, syscall.Errno)) (int, error) {
	for i := 0; ; i++ {
		n, errno := f()
		switch {
		case errno == 0:
			return int(n), nil
		case s.closed.Load():
			return 0, net.ErrClosed
		case errno != unix.EAGAIN && errno != unix.EINTR:
			return 0, errno
		}
		if i%64 == 63 { // the clock costs as much as a quarter of a call
			if d := deadline.Load(); d != 0 && time.Now().UnixNano() > d {
				return 0, os.ErrDeadlineExceeded
			}
		}
	}
}

// Read implements net.Conn.
func (s *socket) Read(b []byte) (int, error) {
	n, err := s.again(&s.read, func() (uintptr, syscall.Errno) {
		n, _, e := unix.RawSyscall(unix.SYS_READ, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		return n, e
	})
	if n == 0 && err == nil && s.tcp && len(b) > 0 {
		err = io.EOF
	}
	return n, err
}

// Write implements net.Conn: all or an error.
func (s *socket) Write(b []byte) (int, error) {
	for done := 0; ; {
		n, err := s.again(&s.written, func() (uintptr, syscall.Errno) {
			n, _, e := unix.RawSyscall(unix.SYS_WRITE, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b[done:]))), uintptr(len(b)-done))
			return n, e
		})
		done += n
		if err != nil || done == len(b) {
			return done, err
		}
	}
}

// ReadFromUDPAddrPort implements load.Datagrams.
func (s *socket) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	var sa unix.RawSockaddrInet4
	n, err := s.again(&s.read, func() (uintptr, syscall.Errno) {
		size := uint32(unix.SizeofSockaddrInet4)
		n, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0,
			uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)))
		return n, e
	})
	return n, netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), ntohs(sa.Port)), err
}

// WriteToUDPAddrPort implements load.Datagrams.
func (s *socket) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	sa := unix.RawSockaddrInet4{Family: unix.AF_INET, Port: ntohs(to.Port()), Addr: to.Addr().As4()}
	return s.again(&s.written, func() (uintptr, syscall.Errno) {
		n, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), 0,
			uintptr(unsafe.Pointer(&sa)), unix.SizeofSockaddrInet4)
		return n, e
	})
}

// ntohs turns the bytes of a port as the kernel keeps it in memory.
func ntohs(p uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(&p))
	return uint16(b[0])<<8 | uint16(b[1])
}

// ReadFrom implements net.PacketConn.
func (s *socket) ReadFrom(b []byte) (int, net.Addr, error) {
	n, a, err := s.ReadFromUDPAddrPort(b)
	return n, net.UDPAddrFromAddrPort(a), err
}

// WriteTo implements net.PacketConn.
func (s *socket) WriteTo(b []byte, a net.Addr) (int, error) {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return 0, &net.AddrError{Err: "not a UDP address", Addr: a.String()}
	}
	return s.WriteToUDPAddrPort(b, u.AddrPort())
}

// SetReadBuffer is that of net.UDPConn.
func (s *socket) SetReadBuffer(n int) error {
	return unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, n)
}

// SetWriteBuffer is that of net.UDPConn.
func (s *socket) SetWriteBuffer(n int) error {
	return unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, n)
}

// CloseWrite is that of net.TCPConn.
func (s *socket) CloseWrite() error { return unix.Shutdown(s.fd, unix.SHUT_WR) }

// Close implements net.Conn.
func (s *socket) Close() error {
	if s.closed.Swap(true) {
		return net.ErrClosed
	}
	return unix.Close(s.fd)
}

func (s *socket) addr(get func(int) (unix.Sockaddr, error)) net.Addr {
	sa, err := get(s.fd)
	if err != nil {
		return nil
	}
	if s.tcp {
		return net.TCPAddrFromAddrPort(addrPort(sa))
	}
	return net.UDPAddrFromAddrPort(addrPort(sa))
}

// LocalAddr implements net.Conn.
func (s *socket) LocalAddr() net.Addr { return s.addr(unix.Getsockname) }

// RemoteAddr implements net.Conn.
func (s *socket) RemoteAddr() net.Addr { return s.addr(unix.Getpeername) }

func unixNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// SetDeadline implements net.Conn.
func (s *socket) SetDeadline(t time.Time) error {
	s.read.Store(unixNano(t))
	s.written.Store(unixNano(t))
	return nil
}

// SetReadDeadline implements net.Conn.
func (s *socket) SetReadDeadline(t time.Time) error { s.read.Store(unixNano(t)); return nil }

// SetWriteDeadline implements net.Conn.
func (s *socket) SetWriteDeadline(t time.Time) error { s.written.Store(unixNano(t)); return nil }
