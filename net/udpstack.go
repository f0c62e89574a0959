package onload

import (
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/onload-go/onload/internal/engine"
	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/udp"
)

// stackUDP is the common part of connectedUDP and boundUDP: reading, and net's
// words for errors.
type stackUDP struct {
	s       *stack.UDPConn // where reads wait
	network string
	wide    bool         // addresses as on an IPv6 socket
	laddr   *net.UDPAddr // all callers share it
	raddr   *net.UDPAddr // nil: not connected

	e    *Engine
	six  bool          // control messages as on an IPv6 socket
	recv atomic.Uint32 // engine.Recv
	leaving

	buffers engine.Buffers // that the program has set, under mu
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
		if k := c.gone(err); k != nil {
			return k.Read(b)
		}
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
		if k := c.gone(err); k != nil {
			return k.ReadFromUDP(b)
		}
		return n, nil, c.readError("recvfrom", err)
	}
	return n, udpAddr(src, c.wide), nil
}

func (c *stackUDP) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	n, _, src, _, err := c.s.ReadFrom(b)
	if err != nil {
		if k := c.gone(err); k != nil {
			return k.ReadFromUDPAddrPort(b)
		}
		return n, netip.AddrPort{}, c.readError("recvfrom", err)
	}
	return n, c.source(src), nil
}

func (c *stackUDP) ReadMsgUDPAddrPort(b, oob []byte) (n, oobn, flags int, addr netip.AddrPort, err error) {
	var info udp.Info
	n, full, err := c.s.ReadInfo(b, &info)
	if err != nil {
		if k := c.gone(err); k != nil {
			return k.ReadMsgUDPAddrPort(b, oob)
		}
		return n, 0, 0, netip.AddrPort{}, c.readError("recvmsg", err)
	}
	oobn, flags = c.message(oob, n, full, &info)
	return n, oobn, flags, c.source(info.Src), nil
}

// message writes the control messages of a datagram that has full bytes, of which
// n were read, and returns their length and the flags of recvmsg(2).
func (c *stackUDP) message(oob []byte, n, full int, info *udp.Info) (oobn, flags int) {
	if full > n {
		flags = syscall.MSG_TRUNC
	}
	if recv := engine.Recv(c.recv.Load()); recv != 0 {
		var cut int
		oobn, cut = engine.Describe(c.s, oob, recv, c.six, info)
		flags |= cut
	}
	return oobn, flags
}

// noKernel is the error of what only the kernel could do, where there is none.
func (c *stackUDP) noKernel(why string) error {
	return c.opError("raw", "raw", unsupportedError("onload: "+why+", and there is no kernel"))
}

// setBuffer notes that the program has set SO_RCVBUF or SO_SNDBUF to bytes. It
// returns the value that the kernel makes of that, and sets it on shadow too, which
// may be nil. mu is held.
func (c *stackUDP) setBuffer(opt, bytes int, shadow *os.File) int {
	c.buffers.Set(opt, bytes)
	if shadow != nil {
		var one engine.Buffers // the program may have set the other one by Control since
		one.Set(opt, bytes)
		one.Follow(shadow)
	}
	return c.e.in.UDPBuffer(opt, bytes)
}

func (c *stackUDP) SetReadDeadline(t time.Time) error {
	c.readBy.Store(nanos(t))
	return c.setError("set", c.s.SetReadDeadline(t))
}

// nanos and timeOf are times as an atomic integer holds them.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func timeOf(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}
