package onload

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/engine"
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
	e       *Engine
	unshare func() // set with k
	pumped  sync.WaitGroup
}

// newBoundUDP returns the carrier of on, and of k unless that is nil.
func newBoundUDP(e *Engine, on *engine.Socket, k *net.UDPConn, network string, unshare func()) *boundUDP {
	c := &boundUDP{on: on, k: k, e: e, unshare: unshare}
	c.s, c.network = on.Receiver(), network
	if k != nil {
		c.laddr = k.LocalAddr().(*net.UDPAddr)
		c.wide = isWide(c.laddr)
		return c
	}
	a := on.LocalAddr()
	if !a.Addr().IsValid() {
		a = netip.AddrPortFrom(netip.IPv6Unspecified(), a.Port())
	}
	c.laddr = udpAddr(a, false)
	return c
}

func (c *boundUDP) path() Path { return Path(c.on.Path()) }

// maxDatagram is the most that a UDP datagram holds (RFC 768).
const maxDatagram = 65535

// pump hands the kernel's datagrams to the readers, until the socket closes.
func (c *boundUDP) pump() {
	b := make([]byte, maxDatagram)
	local := c.laddr.AddrPort()
	info := udp.Info{Dst: netip.AddrPortFrom(local.Addr().Unmap(), local.Port())}
	for failures := 0; ; {
		n, src, err := c.k.ReadFromUDPAddrPort(b)
		switch {
		case err == nil:
			failures = 0
			// Dropped where the readers are behind, as the kernel does.
			info.Src = netip.AddrPortFrom(src.Addr().Unmap(), src.Port())
			c.s.Inject(b[:n], &info)
		case errors.Is(err, net.ErrClosed):
			return
		default:
			if failures++; failures == maxFailures {
				c.e.in.Log().Error("the kernel's socket fails, its datagrams are lost", zap.Stringer("local", local), zap.Error(err))
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
	}
	return 0, c.writeError("sendto", addrPortAddr{addr}, err)
}

func (c *boundUDP) WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error) {
	s, dst, err := c.to(addr)
	if err == nil && s == nil {
		return c.k.WriteMsgUDP(b, oob, addr)
	}
	if err == nil {
		n, err = sendTo(s, b, oob, dst)
	}
	if err != nil {
		err = c.writeError("sendmsg", udpOrNil(addr), err)
	}
	return n, 0, err
}

func (c *boundUDP) WriteMsgUDPAddrPort(b, oob []byte, addr netip.AddrPort) (n, oobn int, err error) {
	s, dst, err := c.toPort(addr)
	if err == nil && s == nil {
		return c.k.WriteMsgUDPAddrPort(b, oob, addr)
	}
	if err == nil {
		n, err = sendTo(s, b, oob, dst)
	}
	if err != nil {
		err = c.writeError("sendmsg", addrPortAddr{addr}, err)
	}
	return n, 0, err
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
	err := c.on.Close()
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
	return c.setError("setsockopt", c.s.SetReadBuffer(bytes))
}

func (c *boundUDP) SetWriteBuffer(bytes int) error {
	if c.k != nil {
		if err := c.k.SetWriteBuffer(bytes); err != nil {
			return err
		}
	}
	return c.setError("setsockopt", c.on.SetWriteBuffer(bytes))
}
