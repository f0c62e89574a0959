package engine

import (
	"context"
	"net/netip"
	"syscall"

	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/tcp"
)

// sharedDial is why the kernel connects where a stack has not got the port.
const sharedDial = "a Control hook set SO_REUSEADDR or SO_REUSEPORT, and others have the port"

// DialTCP connects by the Stack of w, which Way has returned for the same
// addresses. c is the configuration, in which the caller has applied o; o is
// for the rest of the options. If the kernel has to connect after all, DialTCP
// returns neither a connection nor an error, but the reason. Errors are those
// of stack.DialTCP.
func (e *Engine) DialTCP(ctx context.Context, w *Way, local, remote netip.AddrPort, c *tcp.Config, o *Options) (conn *stack.TCPConn, why string, err error) {
	conn, err = w.Stack.DialTCP(ctx, local, remote, &stack.TCPOptions{TCP: c, Shared: o.shared(), IP: o.ip, Route: &w.Route})
	switch {
	case err == syscall.EADDRINUSE && o.shared() && w.Kernel:
		return nil, sharedDial, nil
	case err != nil:
		return nil, "", err
	}
	if o.Linger != nil {
		_ = conn.SetLinger(*o.Linger)
	}
	return conn, "", nil
}

// DialUDP opens a connected socket, as DialTCP does.
func (e *Engine) DialUDP(ctx context.Context, w *Way, local, remote netip.AddrPort, o *Options) (conn *stack.UDPConn, why string, err error) {
	if err := ctx.Err(); err != nil { // nothing else here would notice
		return nil, "", err
	}
	u := e.udp(o)
	u.Shared, u.Route = o.shared(), &w.Route
	conn, err = w.Stack.OpenUDP(local, remote, u)
	if err == syscall.EADDRINUSE && o.shared() && w.Kernel {
		return nil, sharedDial, nil
	}
	return conn, "", err
}
