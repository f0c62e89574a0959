package onload

import (
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/engine"
	"github.com/onload-go/onload/internal/stack"
)

// connectedUDP is a connected socket of a stack.
type connectedUDP struct {
	stackUDP
	shadow *os.File // a kernel socket for the program's options, under stackUDP.mu; nil: there was no hook, and none was asked for
}

// newConnectedUDP returns the carrier of s, which has the options o. The kernel socket
// of a hook becomes the one for the program's options: it has those of the hook.
func newConnectedUDP(e *Engine, s *stack.UDPConn, network string, o *engine.Options) *connectedUDP {
	c := &connectedUDP{shadow: o.TakeSocket()}
	c.e, c.s, c.network = e, s, network
	c.laddr, c.raddr = udpAddr(s.LocalAddr(), false), udpAddr(s.RemoteAddr(), false)
	c.six = !s.RemoteAddr().Addr().Is4()
	c.recv.Store(uint32(o.Recv))
	return c
}

func (c *connectedUDP) path() Path { return Path(engine.PathBy(c.s.Stack(), c.s.Link())) }

func (c *connectedUDP) Write(b []byte) (int, error) {
	n, err := c.s.WriteTo(b, netip.AddrPort{})
	if err != nil {
		if k := c.gone(err); k != nil {
			return k.Write(b)
		}
		err = c.writeError("write", c.raddr, err)
	}
	return n, err
}

func (c *connectedUDP) WriteTo(_ []byte, addr net.Addr) (int, error) {
	a, ok := addr.(*net.UDPAddr)
	if !ok {
		return 0, c.notUDP(addr)
	}
	return c.WriteToUDP(nil, a)
}

func (c *connectedUDP) WriteToUDP(_ []byte, addr *net.UDPAddr) (int, error) {
	return 0, c.writeError("sendto", udpOrNil(addr), net.ErrWriteToConnected)
}

func (c *connectedUDP) WriteToUDPAddrPort(_ []byte, addr netip.AddrPort) (int, error) {
	return 0, c.writeError("sendto", addrPortAddr{addr}, net.ErrWriteToConnected)
}

func (c *connectedUDP) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	return c.writeMsg(b, oob, udpOrNil(addr), addr != nil)
}

func (c *connectedUDP) WriteMsgUDPAddrPort(b, oob []byte, addr netip.AddrPort) (n, oobn int, err error) {
	return c.writeMsg(b, oob, addrPortAddr{addr}, addr.IsValid())
}

// writeMsg sends a message to the peer; given says that the caller named an
// address.
func (c *connectedUDP) writeMsg(b, oob []byte, addr net.Addr, given bool) (n, oobn int, err error) {
	var m stack.Message
	switch {
	case given:
		err = net.ErrWriteToConnected
	case len(oob) > 0:
		err = c.e.in.Command(&m, oob, c.six)
	}
	if err == engine.ErrOnlyKernel {
		var k udpCarrier
		if k, err = c.kernel(engine.OnlyKernelWhy); err == nil {
			return k.WriteMsgUDP(b, oob, nil)
		}
	}
	if err == nil {
		if n, err = c.s.WriteMsg(b, &m); err == nil {
			return n, len(oob), nil
		}
		if k := c.gone(err); k != nil {
			return k.WriteMsgUDP(b, oob, nil)
		}
	}
	return n, 0, c.writeError("sendmsg", addr, err)
}

func (c *connectedUDP) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.way.Load(); w != nil && w.to != nil {
		return w.to.Close()
	}
	err := c.s.Close()
	if c.shadow != nil {
		_ = c.shadow.Close()
	}
	return c.opError("close", "close", err)
}

func (c *connectedUDP) SyscallConn() (syscall.RawConn, error) { return rawUDP{c}, nil }

func (c *connectedUDP) File() (*os.File, error) { return fileOf(c) }

// control is RawConn.Control, with a kernel socket that is not connected.
func (c *connectedUDP) control(f func(fd uintptr)) error {
	raw, err := c.shadowRaw()
	if err != nil {
		return c.opError("raw", "raw", err)
	}
	if err := raw.Control(f); err != nil {
		return err
	}
	o, err := c.e.in.OptionsOf(raw)
	switch {
	case err != nil:
		return c.opError("raw", "raw", err)
	case o.Kernel != "":
		_, err = c.kernel(o.Kernel)
		return err
	}
	c.recv.Store(uint32(o.Recv))
	c.e.in.FollowUDP(c.s, &o)
	return nil
}

// shadowRaw is the RawConn of the kernel socket, which is made at the first call.
func (c *connectedUDP) shadowRaw() (syscall.RawConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.way.Load(); w != nil && w.to != nil {
		return w.to.SyscallConn()
	}
	if c.s.Closed() {
		return nil, net.ErrClosed
	}
	if err := c.makeShadow(); err != nil {
		return nil, err
	}
	return c.shadow.SyscallConn()
}

func (c *connectedUDP) makeShadow() (err error) {
	if c.shadow == nil {
		c.shadow, err = c.e.in.Shadow(c.six, c.buffers)
	}
	return err
}

// kernel makes the kernel the carrier, because of why: the kernel socket gets the
// address and the peer of ours.
func (c *connectedUDP) kernel(why string) (udpCarrier, error) {
	if !c.e.in.Twin(c.s.LocalAddr().Addr()) {
		return nil, c.noKernel(why)
	}
	k, err := c.leave(func() (udpCarrier, error) {
		if err := c.makeShadow(); err != nil {
			return nil, err
		}
		defer c.shadow.Close()
		if err := c.e.in.MoveUDP(c.s, c.shadow); err != nil {
			return nil, err
		}
		conn, err := net.FileConn(c.shadow)
		if err != nil {
			return nil, err
		}
		u := conn.(*net.UDPConn)
		_ = u.SetReadDeadline(timeOf(c.readBy.Load()))
		_ = u.SetWriteDeadline(timeOf(c.sendBy.Load()))
		return &kernelUDP{UDPConn: u, why: why}, nil
	})
	if err != nil {
		return nil, c.opError("raw", "raw", err)
	}
	return k, nil
}

func (c *connectedUDP) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

func (c *connectedUDP) SetWriteDeadline(t time.Time) error {
	c.sendBy.Store(nanos(t))
	return c.setError("set", c.s.SetWriteDeadline(t))
}

func (c *connectedUDP) SetReadBuffer(bytes int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.setError("setsockopt", c.s.SetReadBuffer(c.setBuffer(unix.SO_RCVBUF, bytes, c.shadow)))
}

func (c *connectedUDP) SetWriteBuffer(bytes int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.setError("setsockopt", c.s.SetWriteBuffer(c.setBuffer(unix.SO_SNDBUF, bytes, c.shadow)))
}
