package engine

import (
	"context"
	"errors"
	"net/netip"
	"syscall"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/tcp"
)

// sharedDial is why the kernel connects if a stack could not get the port.
const sharedDial = "a Control hook set SO_REUSEADDR or SO_REUSEPORT, and others have the port"

// lostAddress is why the kernel connects if a stack finds no local address or port.
const lostAddress = "the local address of the route is gone, or no port of it is free"

// leave returns why the kernel connects although w names a stack, which failed with
// err. If it is empty, err is the caller's. The kernel finds an address that came
// since Way was asked, or says in its own words what is wrong. auto says that the port
// is autobind's.
func leave(w *Way, o *Options, auto bool, err error) (why string) {
	switch {
	case !w.Kernel:
	case err == syscall.EADDRINUSE && auto:
		return lostPort
	case err == syscall.EADDRINUSE && o.shared():
		return sharedDial
	case err == syscall.EADDRNOTAVAIL:
		return lostAddress
	case errors.Is(err, driver.ErrRefused):
		return err.Error()
	}
	return ""
}

// DialTCP connects by the Stack of w, which Way has returned for the same
// addresses. c is the configuration, in which the caller has applied o; o is
// for the rest of the options. If the kernel has to connect after all, DialTCP
// returns neither a connection nor an error, but the reason. Errors are those
// of stack.DialTCP.
func (e *Engine) DialTCP(ctx context.Context, w *Way, local, remote netip.AddrPort, c *tcp.Config, o *Options) (conn *stack.TCPConn, why string, err error) {
	local, auto := autobound(w, local)
	conn, err = w.Stack.DialTCP(ctx, local, remote, &stack.TCPOptions{TCP: c, Shared: o.reusePort, ReuseAddr: o.reuseAddr, IP: o.ip, Route: &w.Route})
	if err != nil {
		if why = leave(w, o, auto, err); why != "" {
			err = nil
		}
		return nil, why, err
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
	if src := o.ip.MulticastSrc; src.IsValid() && remote.Addr().IsMulticast() && remote.Addr().Is4() && !local.Addr().IsValid() {
		local = netip.AddrPortFrom(src, local.Port())
	}
	u := e.udp(o)
	u.Shared, u.Route = o.shared(), &w.Route
	local, auto := autobound(w, local)
	conn, err = w.Stack.OpenUDP(local, remote, u)
	if err != nil {
		if why = leave(w, o, auto, err); why != "" {
			err = nil
		}
	}
	return conn, why, err
}
