package onload

import (
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/onload-go/onload/internal/stack"
)

// stackUDP is the common part of connectedUDP and boundUDP: reading, and net's
// words for errors.
type stackUDP struct {
	s       *stack.UDPConn // where reads wait
	network string
	wide    bool         // addresses as on an IPv6 socket
	laddr   *net.UDPAddr // all callers share it
	raddr   *net.UDPAddr // nil: not connected
}

func (c *stackUDP) opError(op, call string, err error) error {
	if err == nil {
		return nil
	}
	return &net.OpError{Op: op, Net: c.network, Source: c.laddr, Addr: c.RemoteAddr(), Err: cause(call, err)}
}

func (c *stackUDP) setError(call string, err error) error {
	if err == nil {
		return nil
	}
	return &net.OpError{Op: "set", Net: c.network, Addr: c.laddr, Err: cause(call, err)}
}

// writeError is the error of a write to an address of the caller's, or to the
// peer. See readError.
//
//go:noinline
func (c *stackUDP) writeError(call string, to net.Addr, err error) error {
	return &net.OpError{Op: "write", Net: c.network, Source: c.laddr, Addr: to, Err: cause(call, err)}
}

// notUDP is the error of a write to an address that is no *net.UDPAddr.
func (c *stackUDP) notUDP(to net.Addr) error {
	return &net.OpError{Op: "write", Net: c.network, Source: c.laddr, Addr: to, Err: syscall.EINVAL}
}

func (c *stackUDP) LocalAddr() net.Addr  { return c.laddr }
func (c *stackUDP) RemoteAddr() net.Addr { return udpOrNil(c.raddr) }

// source is the address of a received datagram as net gives it.
func (c *stackUDP) source(a netip.AddrPort) netip.AddrPort {
	if c.wide && a.Addr().Is4() {
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()), a.Port())
	}
	return a
}

func (c *stackUDP) Read(b []byte) (int, error) {
	if len(b) == 0 && !c.s.Closed() {
		return 0, nil // as net, whose ReadFrom waits
	}
	n, _, _, _, err := c.s.ReadFrom(b)
	if err != nil {
		err = c.readError("read", err)
	}
	return n, err
}

// readError is opError for a read. It is not inlined, so that its callers have
// small frames (TestStackUse).
//
//go:noinline
func (c *stackUDP) readError(call string, err error) error { return c.opError("read", call, err) }

func (c *stackUDP) ReadFrom(b []byte) (int, net.Addr, error) {
	n, a, err := c.ReadFromUDP(b)
	return n, udpOrNil(a), err
}

func (c *stackUDP) ReadFromUDP(b []byte) (int, *net.UDPAddr, error) {
	n, _, src, _, err := c.s.ReadFrom(b)
	if err != nil {
		return n, nil, c.readError("recvfrom", err)
	}
	return n, udpAddr(src, c.wide), nil
}

func (c *stackUDP) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	n, _, src, _, err := c.s.ReadFrom(b)
	if err != nil {
		return n, netip.AddrPort{}, c.readError("recvfrom", err)
	}
	return n, c.source(src), nil
}

func (c *stackUDP) ReadMsgUDPAddrPort(b, _ []byte) (n, oobn, flags int, addr netip.AddrPort, err error) {
	n, full, src, _, err := c.s.ReadFrom(b)
	if err != nil {
		return n, 0, 0, netip.AddrPort{}, c.readError("recvmsg", err)
	}
	if full > n {
		flags = syscall.MSG_TRUNC
	}
	return n, 0, flags, c.source(src), nil
}

func (c *stackUDP) SetReadDeadline(t time.Time) error {
	return c.setError("set", c.s.SetReadDeadline(t))
}

func (c *stackUDP) File() (*os.File, error) { return nil, c.opError("file", "dup", errNoDescriptor) }

func (c *stackUDP) SyscallConn() (syscall.RawConn, error) { return noRawConn{c}, nil }

// noRawConn is the RawConn of a socket without a descriptor.
type noRawConn struct{ c *stackUDP }

func (r noRawConn) Control(func(uintptr)) error    { return r.c.opError("raw", "raw", errNoDescriptor) }
func (r noRawConn) Read(func(uintptr) bool) error  { return r.c.opError("raw", "raw", errNoDescriptor) }
func (r noRawConn) Write(func(uintptr) bool) error { return r.c.opError("raw", "raw", errNoDescriptor) }

// sendTo sends a datagram with control messages, of which there may be none.
func sendTo(s *stack.UDPConn, b, oob []byte, dst netip.AddrPort) (int, error) {
	if len(oob) > 0 {
		return 0, errNoOOB
	}
	return s.WriteTo(b, dst)
}
