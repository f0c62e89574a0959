package onload

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/stack"
)

// UDPConn is a UDP socket, connected or not: accelerated, the kernel's, or
// both at once where it is bound to a port and the kernel has destinations of
// its own. It has the methods of net.UDPConn, with their errors; all of them
// may be called at the same time.
type UDPConn struct {
	// k is the kernel's socket: the only one, or that which holds the port.
	k *net.UDPConn
	// s is where reads wait; nil: only the kernel's. shards are all the
	// sockets on stacks, s the first.
	s      *stack.UDPConn
	shards []*stack.UDPConn
	on     []*stack.Stack

	e         *Engine // of a bound socket, for routes
	log       *zap.Logger
	network   string
	connected bool
	wide      bool   // addresses as on an IPv6 socket
	why       string // not accelerated
	unshare   func() // of a bound socket that has k and shards

	routes routeCache
	pumped sync.WaitGroup

	laddr, raddr atomic.Pointer[net.UDPAddr] // made on first use
}

var (
	_ net.Conn       = (*UDPConn)(nil)
	_ net.PacketConn = (*UDPConn)(nil)
	_ syscall.Conn   = (*UDPConn)(nil)
)

func (c *UDPConn) ok() bool { return c != nil && (c.s != nil || c.k != nil) }

func (c *UDPConn) opError(op, call string, err error) error {
	if err == nil {
		return nil
	}
	return &net.OpError{Op: op, Net: c.network, Source: c.local(), Addr: c.remote(), Err: cause(call, err)}
}

func (c *UDPConn) setError(call string, err error) error {
	if err == nil {
		return nil
	}
	return &net.OpError{Op: "set", Net: c.network, Addr: c.local(), Err: cause(call, err)}
}

// writeError is the error of a write to an address of the caller's.
func (c *UDPConn) writeError(call string, to net.Addr, err error) error {
	return &net.OpError{Op: "write", Net: c.network, Source: c.local(), Addr: to, Err: cause(call, err)}
}

// local is the local address of an accelerated socket.
func (c *UDPConn) local() net.Addr {
	if c.k != nil {
		return c.k.LocalAddr()
	}
	a := c.s.LocalAddr()
	if !a.Addr().IsValid() {
		a = netip.AddrPortFrom(netip.IPv6Unspecified(), a.Port())
	}
	return sharedUDP(&c.laddr, a)
}

// remote is the peer of a connected socket, else nil.
func (c *UDPConn) remote() net.Addr {
	if !c.connected {
		return nil
	}
	return sharedUDP(&c.raddr, c.s.RemoteAddr())
}

func sharedUDP(p *atomic.Pointer[net.UDPAddr], a netip.AddrPort) *net.UDPAddr {
	if have := p.Load(); have != nil {
		return have
	}
	p.CompareAndSwap(nil, udpAddr(a, false))
	return p.Load()
}

// source is the address of a received datagram as net gives it.
func (c *UDPConn) source(a netip.AddrPort) netip.AddrPort {
	if c.wide && a.Addr().Is4() {
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()), a.Port())
	}
	return a
}

// Read reads a datagram; what does not fit into b is lost.
func (c *UDPConn) Read(b []byte) (int, error) {
	if !c.ok() {
		return 0, syscall.EINVAL
	}
	if c.s == nil {
		return c.k.Read(b)
	}
	if len(b) == 0 && !c.s.Closed() {
		return 0, nil // as net, whose ReadFrom waits
	}
	n, _, _, _, err := c.s.ReadFrom(b)
	return n, c.opError("read", "read", err)
}

// ReadFrom reads a datagram and the address that it came from, a *UDPAddr;
// what does not fit into b is lost.
func (c *UDPConn) ReadFrom(b []byte) (int, Addr, error) {
	n, a, err := c.ReadFromUDP(b)
	if a == nil {
		return n, nil, err
	}
	return n, a, err
}

// ReadFromUDP acts like ReadFrom but returns a UDPAddr.
func (c *UDPConn) ReadFromUDP(b []byte) (int, *UDPAddr, error) {
	if !c.ok() {
		return 0, nil, syscall.EINVAL
	}
	if c.s == nil {
		return c.k.ReadFromUDP(b)
	}
	n, _, src, _, err := c.s.ReadFrom(b)
	if err != nil {
		return n, nil, c.opError("read", "recvfrom", err)
	}
	return n, udpAddr(src, c.wide), nil
}

// ReadFromUDPAddrPort acts like ReadFrom but returns a netip.AddrPort, and
// allocates nothing. The address may be an IPv4-mapped IPv6 address.
func (c *UDPConn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	if !c.ok() {
		return 0, netip.AddrPort{}, syscall.EINVAL
	}
	if c.s == nil {
		return c.k.ReadFromUDPAddrPort(b)
	}
	n, _, src, _, err := c.s.ReadFrom(b)
	if err != nil {
		return n, netip.AddrPort{}, c.opError("read", "recvfrom", err)
	}
	return n, c.source(src), nil
}

// ReadMsgUDP reads a datagram and its control messages, of which an
// accelerated socket has none.
func (c *UDPConn) ReadMsgUDP(b, oob []byte) (n, oobn, flags int, addr *UDPAddr, err error) {
	n, oobn, flags, a, err := c.ReadMsgUDPAddrPort(b, oob)
	if a.IsValid() {
		addr = net.UDPAddrFromAddrPort(a)
	}
	return n, oobn, flags, addr, err
}

// ReadMsgUDPAddrPort is like ReadMsgUDP but returns a netip.AddrPort.
func (c *UDPConn) ReadMsgUDPAddrPort(b, oob []byte) (n, oobn, flags int, addr netip.AddrPort, err error) {
	if !c.ok() {
		return 0, 0, 0, netip.AddrPort{}, syscall.EINVAL
	}
	if c.s == nil {
		return c.k.ReadMsgUDPAddrPort(b, oob)
	}
	n, full, src, _, err := c.s.ReadFrom(b)
	if err != nil {
		return n, 0, 0, netip.AddrPort{}, c.opError("read", "recvmsg", err)
	}
	if full > n {
		flags = syscall.MSG_TRUNC
	}
	return n, 0, flags, c.source(src), nil
}

// Write sends a datagram to the peer of a connected socket.
func (c *UDPConn) Write(b []byte) (int, error) {
	if !c.ok() {
		return 0, syscall.EINVAL
	}
	if c.s == nil {
		return c.k.Write(b)
	}
	if !c.connected {
		if c.k != nil {
			return c.k.Write(b) // which fails
		}
		return 0, c.opError("write", "write", syscall.EDESTADDRREQ)
	}
	n, err := c.s.WriteTo(b, netip.AddrPort{})
	return n, c.opError("write", "write", err)
}

// WriteTo sends a datagram to addr, which must be a *UDPAddr. The route
// decides which way it goes.
func (c *UDPConn) WriteTo(b []byte, addr Addr) (int, error) {
	if !c.ok() {
		return 0, syscall.EINVAL
	}
	if c.s == nil {
		return c.k.WriteTo(b, addr)
	}
	a, ok := addr.(*net.UDPAddr)
	if !ok {
		return 0, &net.OpError{Op: "write", Net: c.network, Source: c.local(), Addr: addr, Err: syscall.EINVAL}
	}
	return c.WriteToUDP(b, a)
}

// WriteToUDP acts like WriteTo but takes a UDPAddr.
func (c *UDPConn) WriteToUDP(b []byte, addr *UDPAddr) (int, error) {
	if !c.ok() {
		return 0, syscall.EINVAL
	}
	if c.s == nil {
		return c.k.WriteToUDP(b, addr)
	}
	var err error
	switch {
	case c.connected:
		err = net.ErrWriteToConnected
	case addr == nil:
		err = errMissingAddress
	default:
		dst := addrPort(addr.IP, addr.Port, addr.Zone)
		s, e := c.shardTo(dst.Addr(), addr.Port)
		if s == nil && e == nil {
			return c.k.WriteToUDP(b, addr)
		}
		var n int
		if err = e; err == nil {
			if n, err = s.WriteTo(b, dst); err == nil {
				return n, nil
			}
		}
	}
	return 0, c.writeError("sendto", udpOrNil(addr), err)
}

// WriteToUDPAddrPort acts like WriteTo but takes a netip.AddrPort, and
// allocates nothing.
func (c *UDPConn) WriteToUDPAddrPort(b []byte, addr netip.AddrPort) (int, error) {
	if !c.ok() {
		return 0, syscall.EINVAL
	}
	if c.s == nil {
		return c.k.WriteToUDPAddrPort(b, addr)
	}
	var err error
	switch {
	case c.connected:
		err = net.ErrWriteToConnected
	case !addr.IsValid():
		err = errMissingAddress
	default:
		dst := netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
		s, e := c.shardTo(dst.Addr(), int(dst.Port()))
		if s == nil && e == nil {
			return c.k.WriteToUDPAddrPort(b, addr)
		}
		var n int
		if err = e; err == nil {
			if n, err = s.WriteTo(b, dst); err == nil {
				return n, nil
			}
		}
	}
	return 0, c.writeError("sendto", addrPortAddr{addr}, err)
}

// WriteMsgUDP sends a datagram with control messages, which an accelerated
// socket refuses with errors.ErrUnsupported. addr is nil for the peer of a
// connected socket.
func (c *UDPConn) WriteMsgUDP(b, oob []byte, addr *UDPAddr) (n, oobn int, err error) {
	if !c.ok() {
		return 0, 0, syscall.EINVAL
	}
	if c.s == nil {
		return c.k.WriteMsgUDP(b, oob, addr)
	}
	var dst netip.AddrPort
	port := 0
	if addr != nil {
		dst, port = addrPort(addr.IP, addr.Port, addr.Zone), addr.Port
	}
	s, err := c.msgShard(dst.Addr(), port, addr != nil)
	if err == nil && s == nil {
		return c.k.WriteMsgUDP(b, oob, addr)
	}
	if err == nil {
		n, err = writeMsg(s, b, oob, dst)
	}
	if err != nil {
		err = c.writeError("sendmsg", udpOrNil(addr), err)
	}
	return n, 0, err
}

// WriteMsgUDPAddrPort is like WriteMsgUDP but takes a netip.AddrPort.
func (c *UDPConn) WriteMsgUDPAddrPort(b, oob []byte, addr netip.AddrPort) (n, oobn int, err error) {
	if !c.ok() {
		return 0, 0, syscall.EINVAL
	}
	if c.s == nil {
		return c.k.WriteMsgUDPAddrPort(b, oob, addr)
	}
	dst := netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	s, err := c.msgShard(dst.Addr(), int(dst.Port()), addr.IsValid())
	if err == nil && s == nil {
		return c.k.WriteMsgUDPAddrPort(b, oob, addr)
	}
	if err == nil {
		n, err = writeMsg(s, b, oob, dst)
	}
	if err != nil {
		err = c.writeError("sendmsg", addrPortAddr{addr}, err)
	}
	return n, 0, err
}

// msgShard returns the socket that sends a message to dst, nil for the
// kernel's; given tells whether the caller named an address.
func (c *UDPConn) msgShard(dst netip.Addr, port int, given bool) (*stack.UDPConn, error) {
	switch {
	case c.connected && given:
		return nil, net.ErrWriteToConnected
	case c.connected:
		return c.s, nil
	case !given:
		return nil, errMissingAddress
	}
	return c.shardTo(dst, port)
}

func writeMsg(s *stack.UDPConn, b, oob []byte, dst netip.AddrPort) (int, error) {
	if len(oob) > 0 {
		return 0, errNoOOB
	}
	return s.WriteTo(b, dst)
}

// LocalAddr returns the local address, a *UDPAddr, which all callers share.
func (c *UDPConn) LocalAddr() Addr {
	if !c.ok() {
		return nil
	}
	return c.local()
}

// RemoteAddr returns the address of the peer of a connected socket, which all
// callers share.
func (c *UDPConn) RemoteAddr() Addr {
	if !c.ok() {
		return nil
	}
	if c.s == nil {
		return c.k.RemoteAddr()
	}
	return c.remote()
}

// Close closes the socket. Blocked calls return errors that are net.ErrClosed.
func (c *UDPConn) Close() error {
	if !c.ok() {
		return syscall.EINVAL
	}
	if c.s == nil {
		return c.k.Close()
	}
	return c.opError("close", "close", c.close())
}

// close is Close without net's words for the error, which is the first part's.
func (c *UDPConn) close() error {
	var first error
	for i, s := range c.shards {
		if err := s.Close(); err != nil && i == 0 {
			first = err
		}
	}
	if c.k != nil {
		_ = c.k.Close()
		c.unshare()
		c.e.in.Untrack(c)
	}
	c.pumped.Wait()
	return first
}

// each calls fn for every part that sends, and returns the first error.
func (c *UDPConn) each(fn func(s *stack.UDPConn) error) error {
	for _, s := range c.shards {
		if err := fn(s); err != nil {
			return err
		}
	}
	return nil
}

// SetDeadline sets both deadlines. They are absolute; the zero time is none.
func (c *UDPConn) SetDeadline(t time.Time) error {
	if !c.ok() {
		return syscall.EINVAL
	}
	if c.s == nil {
		return c.k.SetDeadline(t)
	}
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline sets when reads fail with an error that is
// os.ErrDeadlineExceeded.
func (c *UDPConn) SetReadDeadline(t time.Time) error {
	if !c.ok() {
		return syscall.EINVAL
	}
	if c.s == nil {
		return c.k.SetReadDeadline(t)
	}
	return c.setError("set", c.s.SetReadDeadline(t))
}

// SetWriteDeadline sets when writes fail with an error that is
// os.ErrDeadlineExceeded.
func (c *UDPConn) SetWriteDeadline(t time.Time) error {
	if !c.ok() {
		return syscall.EINVAL
	}
	if c.s == nil {
		return c.k.SetWriteDeadline(t)
	}
	if err := c.each(func(s *stack.UDPConn) error { return s.SetWriteDeadline(t) }); err != nil {
		return c.setError("set", err)
	}
	if c.k != nil {
		return c.k.SetWriteDeadline(t)
	}
	return nil
}

// SetReadBuffer bounds the bytes that wait to be read.
func (c *UDPConn) SetReadBuffer(bytes int) error {
	if !c.ok() {
		return syscall.EINVAL
	}
	if c.k != nil {
		if err := c.k.SetReadBuffer(bytes); err != nil || c.s == nil {
			return err
		}
	}
	return c.setError("setsockopt", c.s.SetReadBuffer(bytes))
}

// SetWriteBuffer bounds the bytes that wait to be sent.
func (c *UDPConn) SetWriteBuffer(bytes int) error {
	if !c.ok() {
		return syscall.EINVAL
	}
	if c.k != nil {
		if err := c.k.SetWriteBuffer(bytes); err != nil || c.s == nil {
			return err
		}
	}
	return c.setError("setsockopt", c.each(func(s *stack.UDPConn) error { return s.SetWriteBuffer(bytes) }))
}

// File returns a copy of the underlying file. An accelerated socket has none:
// the error is errors.ErrUnsupported.
func (c *UDPConn) File() (*os.File, error) {
	if !c.ok() {
		return nil, syscall.EINVAL
	}
	if c.s == nil {
		return c.k.File()
	}
	return nil, c.opError("file", "dup", errNoDescriptor)
}

// SyscallConn returns the raw connection. The methods of an accelerated one's
// fail with errors.ErrUnsupported.
func (c *UDPConn) SyscallConn() (syscall.RawConn, error) {
	if !c.ok() {
		return nil, syscall.EINVAL
	}
	if c.s == nil {
		return c.k.SyscallConn()
	}
	return noRawConn{c}, nil
}

// noRawConn is the RawConn of a socket without a descriptor.
type noRawConn struct{ c *UDPConn }

func (r noRawConn) Control(func(uintptr)) error    { return r.c.opError("raw", "raw", errNoDescriptor) }
func (r noRawConn) Read(func(uintptr) bool) error  { return r.c.opError("raw", "raw", errNoDescriptor) }
func (r noRawConn) Write(func(uintptr) bool) error { return r.c.opError("raw", "raw", errNoDescriptor) }
