package onload

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/engine"
	"github.com/onload-go/onload/internal/event"
	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/udp"
)

// boundUDP is a socket bound to a port of one or several stacks. If a kernel
// stands behind them, a kernel socket holds the port, and sends and receives
// all datagrams that are not accelerated.
type boundUDP struct {
	stackUDP
	on      *engine.Socket
	k       *net.UDPConn // nil: there is no kernel
	shadow  *os.File     // then: a socket for the program's options, under stackUDP.mu
	unshare func()       // set with k
	always  engine.Recv  // control messages that Control does not take away
	pumped  sync.WaitGroup
}

// newBoundUDP returns the carrier of on, and of k unless that is nil.
func newBoundUDP(e *Engine, on *engine.Socket, k *net.UDPConn, network string, o *engine.Options, unshare func()) *boundUDP {
	c := &boundUDP{on: on, k: k, unshare: unshare, shadow: o.TakeSocket()}
	c.e, c.s, c.network = e, on.Receiver(), network
	c.recv.Store(uint32(o.Recv))
	if k != nil {
		c.laddr = k.LocalAddr().(*net.UDPAddr)
		c.wide = isWide(c.laddr)
		c.six = c.wide
		return c
	}
	a := on.LocalAddr()
	if !a.Addr().IsValid() {
		a = netip.AddrPortFrom(netip.IPv6Unspecified(), a.Port())
	}
	c.laddr = udpAddr(a, false)
	c.six = a.Addr().Is6()
	return c
}

func (c *boundUDP) path() Path { return Path(c.on.Path()) }

// maxDatagram is the most that a UDP datagram holds (RFC 768).
const maxDatagram = 65535

// pump hands the kernel's datagrams to the readers, until the socket closes or
// the kernel becomes the carrier.
func (c *boundUDP) pump() {
	b := make([]byte, maxDatagram)
	oob := make([]byte, 256)
	local := c.laddr.AddrPort()
	to := netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
	for failures := 0; ; {
		n, oobn, _, src, err := c.k.ReadMsgUDPAddrPort(b, oob)
		switch {
		case err == nil:
			failures = 0
			info := udp.Info{Src: netip.AddrPortFrom(src.Addr().Unmap(), src.Port()), Dst: to}
			engine.Learn(&info, oob[:oobn])
			// Dropped where the readers are behind, as the kernel does.
			c.s.Inject(b[:n], &info)
		case errors.Is(err, net.ErrClosed), c.way.Load() != nil:
			return
		default:
			if failures++; failures == maxFailures {
				c.e.in.Log().Error("the kernel's socket fails, its datagrams are lost", event.SocketError.Field(), zap.Stringer("local", local), zap.Error(err))
				return
			}
		}
	}
}

// maxFailures is how many reads in a row may fail before the kernel's socket
// is given up.
const maxFailures = 100

func (c *boundUDP) Write(b []byte) (int, error) {
	if c.k != nil {
		return c.k.Write(b) // which fails
	}
	return 0, c.opError("write", "write", syscall.EDESTADDRREQ)
}

func (c *boundUDP) WriteTo(b []byte, addr net.Addr) (int, error) {
	a, ok := addr.(*net.UDPAddr)
	if !ok {
		return 0, c.notUDP(addr)
	}
	return c.WriteToUDP(b, a)
}

func (c *boundUDP) WriteToUDP(b []byte, addr *net.UDPAddr) (int, error) {
	s, dst, err := c.to(addr)
	if s == nil && err == nil {
		return c.k.WriteToUDP(b, addr)
	}
	var n int
	if err == nil {
		if n, err = s.WriteTo(b, dst); err == nil {
			return n, nil
		}
		if k := c.gone(err); k != nil {
			return k.WriteToUDP(b, addr)
		}
	}
	return 0, c.writeError("sendto", udpOrNil(addr), err)
}

func (c *boundUDP) WriteToUDPAddrPort(b []byte, addr netip.AddrPort) (int, error) {
	s, dst, err := c.toPort(addr)
	if s == nil && err == nil {
		return c.k.WriteToUDPAddrPort(b, addr)
	}
	var n int
	if err == nil {
		if n, err = s.WriteTo(b, dst); err == nil {
			return n, nil
		}
		if k := c.gone(err); k != nil {
			return k.WriteToUDPAddrPort(b, addr)
		}
	}
	return 0, c.writeError("sendto", addrPortAddr{addr}, err)
}

func (c *boundUDP) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	s, dst, err := c.to(addr)
	if err == nil && s == nil {
		return c.k.WriteMsgUDP(b, oob, addr)
	}
	m := stack.Message{Dst: dst}
	if err == nil {
		err = c.e.in.Command(&m, oob, c.six)
	}
	if err == engine.ErrOnlyKernel && c.k != nil {
		return c.k.WriteMsgUDP(b, oob, addr)
	}
	if err == nil {
		if n, err = s.WriteMsg(b, &m); err == nil {
			return n, len(oob), nil
		}
		if k := c.gone(err); k != nil {
			return k.WriteMsgUDP(b, oob, addr)
		}
	}
	return n, 0, c.writeError("sendmsg", udpOrNil(addr), err)
}

func (c *boundUDP) WriteMsgUDPAddrPort(b, oob []byte, addr netip.AddrPort) (n, oobn int, err error) {
	s, dst, err := c.toPort(addr)
	if err == nil && s == nil {
		return c.k.WriteMsgUDPAddrPort(b, oob, addr)
	}
	m := stack.Message{Dst: dst}
	if err == nil {
		err = c.e.in.Command(&m, oob, c.six)
	}
	if err == engine.ErrOnlyKernel && c.k != nil {
		return c.k.WriteMsgUDPAddrPort(b, oob, addr)
	}
	if err == nil {
		if n, err = s.WriteMsg(b, &m); err == nil {
			return n, len(oob), nil
		}
		if k := c.gone(err); k != nil {
			return k.WriteMsgUDPAddrPort(b, oob, addr)
		}
	}
	return n, 0, c.writeError("sendmsg", addrPortAddr{addr}, err)
}

// to returns the socket that sends to addr, nil for the kernel's.
func (c *boundUDP) to(addr *net.UDPAddr) (s *stack.UDPConn, dst netip.AddrPort, err error) {
	if addr == nil {
		return nil, dst, errMissingAddress
	}
	dst = addrPort(addr.IP, addr.Port, addr.Zone)
	s, err = c.on.To(dst.Addr(), addr.Port)
	return s, dst, err
}

// toPort is to for an AddrPort.
func (c *boundUDP) toPort(addr netip.AddrPort) (s *stack.UDPConn, dst netip.AddrPort, err error) {
	if !addr.IsValid() {
		return nil, dst, errMissingAddress
	}
	dst = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	s, err = c.on.To(dst.Addr(), int(dst.Port()))
	return s, dst, err
}

func (c *boundUDP) Close() error { return c.opError("close", "close", c.close()) }

// close is Close without net's words for the error, which is the stack's.
func (c *boundUDP) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if w := c.way.Load(); w != nil && w.to != nil {
		return w.to.Close()
	}
	err := c.on.Close()
	if c.shadow != nil {
		_ = c.shadow.Close()
	}
	if c.k != nil {
		_ = c.k.Close()
		c.unshare()
		c.e.in.Untrack(c)
	}
	c.pumped.Wait()
	return err
}

func (c *boundUDP) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

func (c *boundUDP) SetWriteDeadline(t time.Time) error {
	c.sendBy.Store(nanos(t))
	if err := c.on.SetWriteDeadline(t); err != nil || c.k == nil {
		return c.setError("set", err)
	}
	return c.k.SetWriteDeadline(t)
}

func (c *boundUDP) SetReadBuffer(bytes int) error {
	if c.k != nil {
		if err := c.k.SetReadBuffer(bytes); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.setError("setsockopt", c.s.SetReadBuffer(c.setBuffer(unix.SO_RCVBUF, bytes, c.shadow)))
}

func (c *boundUDP) SetWriteBuffer(bytes int) error {
	if c.k != nil {
		if err := c.k.SetWriteBuffer(bytes); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.setError("setsockopt", c.on.SetWriteBuffer(c.setBuffer(unix.SO_SNDBUF, bytes, c.shadow)))
}

func (c *boundUDP) SyscallConn() (syscall.RawConn, error) { return rawUDP{c}, nil }

func (c *boundUDP) File() (*os.File, error) { return fileOf(c) }

// control is RawConn.Control, with the kernel's socket on the same port.
func (c *boundUDP) control(f func(fd uintptr)) error {
	raw, err := c.kernelRaw()
	if err != nil {
		return c.opError("raw", "raw", err)
	}
	if err := raw.Control(f); err != nil || c.way.Load() != nil {
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
	c.recv.Store(uint32(o.Recv | c.always))
	c.on.Follow(&o)
	if err := c.hear(); err != nil && !c.s.Closed() {
		return c.opError("raw", "raw", err)
	}
	return nil
}

// kernelRaw is the RawConn of the kernel's socket; where there is none, of one
// for the program's options.
func (c *boundUDP) kernelRaw() (syscall.RawConn, error) {
	if c.k != nil {
		return c.k.SyscallConn()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.s.Closed() {
		return nil, net.ErrClosed
	}
	if c.shadow == nil {
		var err error
		if c.shadow, err = c.e.in.Shadow(c.six, c.buffers); err != nil {
			return nil, err
		}
	}
	return c.shadow.SyscallConn()
}

// kernel makes the kernel's socket the carrier, because of why.
func (c *boundUDP) kernel(why string) (udpCarrier, error) {
	if c.k == nil {
		return nil, c.noKernel(why)
	}
	k, err := c.leave(func() (udpCarrier, error) {
		if c.s.Closed() {
			return nil, net.ErrClosed
		}
		_ = c.k.SetReadDeadline(time.Unix(1, 0)) // ends pump
		c.pumped.Wait()
		_ = c.k.SetReadDeadline(timeOf(c.readBy.Load()))
		_ = c.k.SetWriteDeadline(timeOf(c.sendBy.Load()))
		c.e.in.LeaveUDP(c.s, c.on)
		c.unshare()
		c.e.in.Untrack(c)
		return &kernelUDP{UDPConn: c.k, why: why}, nil
	})
	if err != nil {
		return nil, c.opError("raw", "raw", err)
	}
	return k, nil
}
