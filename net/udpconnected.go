package onload

import (
	"net"
	"net/netip"
	"time"

	"github.com/onload-go/onload/internal/engine"
	"github.com/onload-go/onload/internal/stack"
)

// connectedUDP is a connected socket of a stack.
type connectedUDP struct{ stackUDP }

func newConnectedUDP(s *stack.UDPConn, network string) *connectedUDP {
	return &connectedUDP{stackUDP{
		s: s, network: network, laddr: udpAddr(s.LocalAddr(), false), raddr: udpAddr(s.RemoteAddr(), false),
	}}
}

func (c *connectedUDP) path() Path { return Path(engine.PathBy(c.s.Stack(), c.s.Link())) }

func (c *connectedUDP) Write(b []byte) (int, error) {
	n, err := c.s.WriteTo(b, netip.AddrPort{})
	if err != nil {
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
	if given {
		err = net.ErrWriteToConnected
	} else {
		n, err = sendTo(c.s, b, oob, netip.AddrPort{})
	}
	if err != nil {
		err = c.writeError("sendmsg", addr, err)
	}
	return n, 0, err
}

func (c *connectedUDP) Close() error { return c.opError("close", "close", c.s.Close()) }

func (c *connectedUDP) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

func (c *connectedUDP) SetWriteDeadline(t time.Time) error {
	return c.setError("set", c.s.SetWriteDeadline(t))
}

func (c *connectedUDP) SetReadBuffer(bytes int) error {
	return c.setError("setsockopt", c.s.SetReadBuffer(bytes))
}

func (c *connectedUDP) SetWriteBuffer(bytes int) error {
	return c.setError("setsockopt", c.s.SetWriteBuffer(bytes))
}
