package onload

import (
	"context"
	"net"
	"net/http/httptrace"
	"net/netip"

	"github.com/onload-go/onload/internal/engine"
)

// tcp dials one address, by a stack or by the kernel.
func (r *race) tcp(ctx context.Context, laddr, raddr *net.TCPAddr) (*TCPConn, error) {
	fail := func(err error) (*TCPConn, error) {
		return nil, &net.OpError{Op: "dial", Net: r.network, Source: tcpOrNil(laddr), Addr: raddr, Err: err}
	}
	remote := addrPort(raddr.IP, raddr.Port, raddr.Zone)
	fits := isSocketAddr(raddr.IP, raddr.Port)
	var local netip.AddrPort
	if laddr != nil {
		local = addrPort(laddr.IP, laddr.Port, laddr.Zone)
		fits = fits && isSocketAddr(laddr.IP, laddr.Port)
	}
	w, o, err := r.way(ctx, local, remote, fits, raddr)
	if err != nil {
		return fail(err)
	}
	kernel := func(why string) (*TCPConn, error) {
		c, err := r.kernel(ctx, tcpOrNil(laddr), raddr.String(), func() (net.Conn, error) {
			return net.DialTCP(r.network, laddr, raddr)
		})
		if err != nil {
			return nil, err
		}
		return kernelTCPConn(c.(*net.TCPConn), r.network, why), nil
	}
	if w.Stack == nil {
		return kernel(w.Why)
	}
	cfg := r.e.tcpConfig(r.d.KeepAlive, r.d.KeepAliveConfig)
	cfg.FastOpenConnect = r.d.FastOpen
	o.Apply(cfg, !r.d.KeepAliveConfig.Enable && r.d.KeepAlive < 0)
	done := connectTrace(ctx, r.network, raddr.String())
	c, why, err := r.e.in.DialTCP(ctx, &w, local, remote, cfg, &o)
	done(err)
	switch {
	case err != nil:
		return fail(connectCause(err, local))
	case why != "":
		return kernel(why)
	}
	return acceleratedTCP(c, r.network, false), nil
}

// udp opens a socket connected to one address.
func (r *race) udp(ctx context.Context, laddr, raddr *net.UDPAddr) (*UDPConn, error) {
	fail := func(err error) (*UDPConn, error) {
		return nil, &net.OpError{Op: "dial", Net: r.network, Source: udpOrNil(laddr), Addr: raddr, Err: err}
	}
	remote := addrPort(raddr.IP, raddr.Port, raddr.Zone)
	fits := isSocketAddr(raddr.IP, raddr.Port)
	var local netip.AddrPort
	if laddr != nil {
		local = addrPort(laddr.IP, laddr.Port, laddr.Zone)
		fits = fits && isSocketAddr(laddr.IP, laddr.Port)
	}
	w, o, err := r.way(ctx, local, remote, fits, raddr)
	if err != nil {
		return fail(err)
	}
	defer o.CloseSocket() // unless the connection takes it
	kernel := func(why string) (*UDPConn, error) {
		c, err := r.kernel(ctx, udpOrNil(laddr), raddr.String(), func() (net.Conn, error) {
			return net.DialUDP(r.network, laddr, raddr)
		})
		if err != nil {
			return nil, err
		}
		return kernelUDPConn(c.(*net.UDPConn), why), nil
	}
	if w.Stack == nil {
		return kernel(w.Why)
	}
	done := connectTrace(ctx, r.network, raddr.String())
	c, why, err := r.e.in.DialUDP(ctx, &w, local, remote, &o)
	done(err)
	switch {
	case err != nil:
		return fail(connectCause(err, local))
	case why != "":
		return kernel(why)
	}
	return newUDPConn(newConnectedUDP(r.e, c, r.network, &o)), nil
}

// way asks the engine for the carrier of a connection from local (which may be
// unset) to remote, and calls the Control hook, if any. fits is false if no
// netip.AddrPort can hold the caller's addresses. The error is for an OpError.
func (r *race) way(ctx context.Context, local, remote netip.AddrPort, fits bool, raddr net.Addr) (w engine.Way, o engine.Options, err error) {
	if fits {
		w, err = r.e.in.Way(family(r.network), engine.Traffic{Proto: proto(r.network)}, local, remote)
	} else {
		w, err = r.e.in.Invalid()
	}
	if err != nil {
		return w, o, cause("connect", err)
	}
	if w.Kernel && isTCP(r.network) && r.d.MultipathTCP() {
		return engine.Way{Why: "Multipath TCP is not accelerated", Kernel: true}, o, nil
	}
	hook := r.d.control()
	if hook == nil || w.Stack == nil && !w.Group {
		return w, o, nil
	}
	o, err = r.e.options(ctx, hook, r.network, remote.Addr(), raddr.String())
	if err == nil && o.Kernel == "" && fits {
		// The kernel looks for the route after the hook, which may have set a TOS.
		if t := o.Traffic(proto(r.network)); t != (engine.Traffic{}) {
			if w, err = r.e.in.Way(family(r.network), t, local, remote); err != nil {
				o.CloseSocket()
				return w, o, cause("connect", err)
			}
		}
	}
	if w.Stack == nil && err == nil {
		return w, o, nil
	}
	switch {
	case err != nil || o.Kernel == "":
		return w, o, err
	case !w.Kernel:
		return w, o, o.NeedKernel()
	}
	return engine.Way{Why: o.Kernel, Kernel: true}, o, nil
}

// kernel connects by net. exactly is the call of net that takes the addresses as
// they are.
func (r *race) kernel(ctx context.Context, laddr net.Addr, raddr string, exactly func() (net.Conn, error)) (c net.Conn, err error) {
	if r.style == bare {
		err = r.e.inNS("dial", r.network, func() (err error) { c, err = exactly(); return err })
		return c, err
	}
	d := r.d.std()
	d.LocalAddr = laddr
	return r.e.dialStd(ctx, d, r.network, raddr)
}

// connectTrace calls the hooks of net/http/httptrace as net does.
func connectTrace(ctx context.Context, network, address string) (done func(error)) {
	t := httptrace.ContextClientTrace(ctx)
	if t == nil {
		return func(error) {}
	}
	if t.ConnectStart != nil {
		t.ConnectStart(network, address)
	}
	return func(err error) {
		if t.ConnectDone != nil {
			t.ConnectDone(network, address, err)
		}
	}
}
