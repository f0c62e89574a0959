//go:build onload && linux

package netglue

import (
	"context"
	"internal/onload"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/engine"
	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/udp"
)

// udpSocket is what connected and bound sockets have in common: reading.
type udpSocket struct {
	none
	e *engine.Engine
	s *stack.UDPConn // where reads wait
}

func (c *udpSocket) Read(p []byte) (int, error) {
	if len(p) == 0 && !c.s.Closed() {
		return 0, nil // as poll.FD, whose ReadFrom waits
	}
	n, _, _, _, err := c.s.ReadFrom(p)
	return n, err
}

func (c *udpSocket) ReadMsg(p, oob []byte) (n, oobn, flags int, from netip.AddrPort, err error) {
	var info udp.Info
	n, full, err := c.s.ReadInfo(p, &info)
	if err != nil {
		return n, 0, 0, from, err
	}
	if full > n {
		flags = syscall.MSG_TRUNC
	}
	return n, 0, flags, info.Src, nil
}

func (c *udpSocket) SetReadDeadline(t time.Time) error { return c.s.SetReadDeadline(t) }

// udpConn is a connected socket of a stack.
type udpConn struct{ udpSocket }

func dialUDP(ctx context.Context, e *engine.Engine, w *engine.Way, local, remote netip.AddrPort, o *engine.Options) (onload.Socket, error) {
	defer o.CloseSocket()
	s, why, err := e.DialUDP(ctx, w, local, remote, o)
	if err != nil || why != "" {
		return nil, err
	}
	return &udpConn{udpSocket{e: e, s: s}}, nil
}

func (c *udpConn) Write(p []byte) (int, error) { return c.s.WriteTo(p, netip.AddrPort{}) }

func (c *udpConn) WriteMsg(p, _ []byte, _ netip.AddrPort) (int, bool, error) {
	n, err := c.s.WriteTo(p, netip.AddrPort{})
	return n, false, err
}

func (c *udpConn) Close() error                       { return c.s.Close() }
func (c *udpConn) SetWriteDeadline(t time.Time) error { return c.s.SetWriteDeadline(t) }
func (c *udpConn) LocalAddr() netip.AddrPort          { return c.s.LocalAddr() }
func (c *udpConn) RemoteAddr() netip.AddrPort         { return c.s.RemoteAddr() }

func (c *udpConn) SetsockoptInt(level, name, v int) error {
	if level != unix.SOL_SOCKET {
		return nil
	}
	switch name {
	case unix.SO_RCVBUF:
		return c.s.SetReadBuffer(c.e.UDPBuffer(name, v))
	case unix.SO_SNDBUF:
		return c.s.SetWriteBuffer(c.e.UDPBuffer(name, v))
	}
	return nil
}

// udpBound is a socket bound on the stacks, with a kernel socket on the same port.
type udpBound struct {
	udpSocket
	on      *engine.Socket
	local   netip.AddrPort
	unshare func()
}

func bindUDP(e *engine.Engine, twin syscall.Conn, sh *engine.Shards, local netip.AddrPort, six bool, o *engine.Options, unshare func()) (onload.Socket, error) {
	on, err := e.Bind(sh, local.Port(), true, o)
	if err == syscall.EADDRINUSE {
		o.GroupsOnly = true
		on, err = e.Bind(sh, local.Port(), true, o)
	}
	if err != nil {
		unshare()
		return nil, err
	}
	c := &udpBound{udpSocket: udpSocket{e: e, s: on.Receiver()}, on: on, local: local, unshare: unshare}
	return c, nil
}

func (c *udpBound) Write([]byte) (int, error) { return 0, syscall.EDESTADDRREQ }

func (c *udpBound) WriteMsg(p, oob []byte, to netip.AddrPort) (int, bool, error) {
	s, err := c.on.To(to.Addr(), int(to.Port()))
	if err != nil || s == nil {
		return 0, err == nil, err
	}
	n, err := s.WriteTo(p, to)
	return n, false, err
}

func (c *udpBound) InjectMsg(p, oob []byte, from netip.AddrPort) {
	c.s.Inject(p, &udp.Info{Src: from, Dst: c.local})
}

func (c *udpBound) Close() error                       { return c.on.Close() }
func (c *udpBound) Closed()                            { c.unshare() }
func (c *udpBound) SetWriteDeadline(t time.Time) error { return c.on.SetWriteDeadline(t) }
func (c *udpBound) LocalAddr() netip.AddrPort          { return c.on.LocalAddr() }

func (c *udpBound) Leave(why string) (int, error) {
	c.e.LeaveUDP(c.s, c.on)
	c.unshare()
	return -1, nil
}

func (c *udpBound) SetsockoptInt(level, name, v int) error {
	if level != unix.SOL_SOCKET {
		return nil
	}
	switch name {
	case unix.SO_RCVBUF:
		return c.s.SetReadBuffer(c.e.UDPBuffer(name, v))
	case unix.SO_SNDBUF:
		return c.on.SetWriteBuffer(c.e.UDPBuffer(name, v))
	}
	return nil
}
