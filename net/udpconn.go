package onload

import (
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"

	"github.com/onload-go/onload/internal/stack"
)

// UDPConn is a UDP socket, connected or not: accelerated, the kernel's, or
// both at once where it is bound to a port and the kernel has destinations of
// its own. It has the methods of net.UDPConn, with their errors; all of them
// may be called at the same time.
type UDPConn struct {
	carrier atomic.Pointer[udpCarrier]
	engine  *Engine // of a socket with ListenConfig.ReplyFromDestination, else nil
}

// udpCarrier carries the datagrams of a UDPConn. There are connectedUDP,
// boundUDP, kernelUDP, and noUDP for the zero UDPConn.
type udpCarrier interface {
	net.Conn
	net.PacketConn
	ReadFromUDP(b []byte) (int, *net.UDPAddr, error)
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	ReadMsgUDPAddrPort(b, oob []byte) (n, oobn, flags int, addr netip.AddrPort, err error)
	WriteToUDP(b []byte, addr *net.UDPAddr) (int, error)
	WriteToUDPAddrPort(b []byte, addr netip.AddrPort) (int, error)
	WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error)
	WriteMsgUDPAddrPort(b, oob []byte, addr netip.AddrPort) (n, oobn int, err error)
	readBatch(ms []ipv4.Message, flags int) (int, error)
	writeBatch(ms []ipv4.Message, flags int) (int, error)
	SetReadBuffer(bytes int) error
	SetWriteBuffer(bytes int) error
	File() (*os.File, error)
	SyscallConn() (syscall.RawConn, error)
	path() Path
	drops() UDPDrops
}

// newUDPConn returns the socket that v carries.
func newUDPConn(v udpCarrier) *UDPConn {
	c := new(UDPConn)
	switch v := v.(type) {
	case *connectedUDP:
		v.owner = c
		runtime.AddCleanup(c, forgottenUDP, v.s)
	case *boundUDP:
		v.owner = c
	}
	c.carrier.Store(&v)
	return c
}

// forgottenUDP is forgotten for connected UDP sockets.
func forgottenUDP(s *stack.UDPConn) { _ = s.Close() }

// via returns the carrier of c.
func (c *UDPConn) via() udpCarrier {
	if c != nil {
		if v := c.carrier.Load(); v != nil {
			return *v
		}
	}
	return noUDP{}
}

var (
	_ net.Conn       = (*UDPConn)(nil)
	_ net.PacketConn = (*UDPConn)(nil)
	_ syscall.Conn   = (*UDPConn)(nil)
)

// Read reads a datagram; what does not fit into b is lost.
func (c *UDPConn) Read(b []byte) (int, error) { return c.via().Read(b) }

// ReadFrom reads a datagram and the address that it came from, a *UDPAddr;
// what does not fit into b is lost.
func (c *UDPConn) ReadFrom(b []byte) (int, Addr, error) {
	if c.replies() {
		n, a, err := c.readAsked(b)
		return n, udpOrNil(a), err
	}
	return c.via().ReadFrom(b)
}

// ReadFromUDP acts like ReadFrom but returns a UDPAddr.
func (c *UDPConn) ReadFromUDP(b []byte) (int, *UDPAddr, error) {
	if c.replies() {
		return c.readAsked(b)
	}
	return c.via().ReadFromUDP(b)
}

// ReadFromUDPAddrPort acts like ReadFrom but returns a netip.AddrPort, and
// allocates nothing. The address may be an IPv4-mapped IPv6 address.
func (c *UDPConn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	return c.via().ReadFromUDPAddrPort(b)
}

// ReadMsgUDP reads a datagram and its control messages: those that were asked for
// by socket options (SyscallConn, or a Control hook).
func (c *UDPConn) ReadMsgUDP(b, oob []byte) (n, oobn, flags int, addr *UDPAddr, err error) {
	n, oobn, flags, a, err := c.ReadMsgUDPAddrPort(b, oob)
	if a.IsValid() {
		addr = net.UDPAddrFromAddrPort(a)
	}
	return n, oobn, flags, addr, err
}

// ReadMsgUDPAddrPort is like ReadMsgUDP but returns a netip.AddrPort.
func (c *UDPConn) ReadMsgUDPAddrPort(b, oob []byte) (n, oobn, flags int, addr netip.AddrPort, err error) {
	return c.via().ReadMsgUDPAddrPort(b, oob)
}

// Write sends a datagram to the peer of a connected socket.
func (c *UDPConn) Write(b []byte) (int, error) { return c.via().Write(b) }

// WriteTo sends a datagram to addr, which must be a *UDPAddr. The route
// decides which way it goes.
func (c *UDPConn) WriteTo(b []byte, addr Addr) (int, error) {
	if a, ok := addr.(*net.UDPAddr); ok && c.replies() {
		return c.WriteToUDP(b, a)
	}
	return c.via().WriteTo(b, addr)
}

// WriteToUDP acts like WriteTo but takes a UDPAddr.
func (c *UDPConn) WriteToUDP(b []byte, addr *UDPAddr) (int, error) {
	if c.replies() {
		if n, ok, err := c.writeReply(b, addr); ok {
			return n, err
		}
	}
	return c.via().WriteToUDP(b, addr)
}

// WriteToUDPAddrPort acts like WriteTo but takes a netip.AddrPort, and
// allocates nothing.
func (c *UDPConn) WriteToUDPAddrPort(b []byte, addr netip.AddrPort) (int, error) {
	return c.via().WriteToUDPAddrPort(b, addr)
}

// WriteMsgUDP sends a datagram with control messages: source address, TTL, TOS,
// UDP_SEGMENT. Datagrams with others are the kernel's. addr is nil for the peer of
// a connected socket.
func (c *UDPConn) WriteMsgUDP(b, oob []byte, addr *UDPAddr) (n, oobn int, err error) {
	return c.via().WriteMsgUDP(b, oob, addr)
}

// WriteMsgUDPAddrPort is like WriteMsgUDP but takes a netip.AddrPort.
func (c *UDPConn) WriteMsgUDPAddrPort(b, oob []byte, addr netip.AddrPort) (n, oobn int, err error) {
	return c.via().WriteMsgUDPAddrPort(b, oob, addr)
}

// LocalAddr returns the local address, a *UDPAddr, which all callers share.
func (c *UDPConn) LocalAddr() Addr { return c.via().LocalAddr() }

// RemoteAddr returns the address of the peer of a connected socket, which all
// callers share.
func (c *UDPConn) RemoteAddr() Addr { return c.via().RemoteAddr() }

// Close closes the socket. Blocked calls return errors that are net.ErrClosed.
func (c *UDPConn) Close() error { return c.via().Close() }

// SetDeadline sets both deadlines. They are absolute; the zero time is none.
func (c *UDPConn) SetDeadline(t time.Time) error { return c.via().SetDeadline(t) }

// SetReadDeadline sets when reads fail with an error that is
// os.ErrDeadlineExceeded.
func (c *UDPConn) SetReadDeadline(t time.Time) error { return c.via().SetReadDeadline(t) }

// SetWriteDeadline sets when writes fail with an error that is
// os.ErrDeadlineExceeded.
func (c *UDPConn) SetWriteDeadline(t time.Time) error { return c.via().SetWriteDeadline(t) }

// SetReadBuffer bounds the datagrams that wait to be read: to twice that many bytes,
// the system's limit allowing, of which each counts more than its payload (SO_RCVBUF
// in socket(7)).
func (c *UDPConn) SetReadBuffer(bytes int) error { return c.via().SetReadBuffer(bytes) }

// SetWriteBuffer bounds the datagrams that wait to be sent, likewise (SO_SNDBUF).
func (c *UDPConn) SetWriteBuffer(bytes int) error { return c.via().SetWriteBuffer(bytes) }

// File returns a copy of the underlying file. An accelerated socket has none, and
// becomes the kernel's.
func (c *UDPConn) File() (*os.File, error) { return c.via().File() }

// SyscallConn returns the raw connection. Of an accelerated socket, Control has a
// kernel socket beside it: options set there are followed, or make the kernel the
// carrier where only it can (PathOf says why). So do Read and Write, since only
// the kernel has datagrams behind a descriptor: see ReadBatch.
func (c *UDPConn) SyscallConn() (syscall.RawConn, error) { return c.via().SyscallConn() }
