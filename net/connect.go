package onload

import (
	"context"
	"net"
	"net/http/httptrace"
	"net/netip"
	"syscall"

	"github.com/onload-go/onload/internal/engine"
	"github.com/onload-go/onload/internal/stack"
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
	w, o, err := r.way(ctx, local, remote, fits, raddr.String())
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
	o.apply(cfg, !r.d.KeepAliveConfig.Enable && r.d.KeepAlive < 0)
	done := connectTrace(ctx, r.network, raddr.String())
	c, err := w.Stack.DialTCP(ctx, local, remote, &stack.TCPOptions{TCP: cfg, Shared: o.shared(), IP: o.ip, Route: &w.Route})
	done(err)
	if err == syscall.EADDRINUSE && o.shared() && w.Kernel {
		return kernel(sharedDial)
	}
	if err != nil {
		return fail(connectCause(err))
	}
	if o.linger != nil {
		_ = c.SetLinger(*o.linger)
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
	w, o, err := r.way(ctx, local, remote, fits, raddr.String())
	if err != nil {
		return fail(err)
	}
	kernel := func(why string) (*UDPConn, error) {
		c, err := r.kernel(ctx, udpOrNil(laddr), raddr.String(), func() (net.Conn, error) {
			return net.DialUDP(r.network, laddr, raddr)
		})
		if err != nil {
			return nil, err
		}
		return &UDPConn{k: c.(*net.UDPConn), network: r.network, why: why}, nil
	}
	if w.Stack == nil {
		return kernel(w.Why)
	}
	done := connectTrace(ctx, r.network, raddr.String())
	opts := r.e.udpOptions(&o)
	opts.Shared, opts.Route = o.shared(), &w.Route
	var u *stack.UDPConn
	if err = ctx.Err(); err == nil { // nothing else here would notice
		u, err = w.Stack.OpenUDP(local, remote, opts)
	}
	done(err)
	if err == syscall.EADDRINUSE && o.shared() && w.Kernel {
		return kernel(sharedDial)
	}
	if err != nil {
		return fail(connectCause(err))
	}
	return &UDPConn{s: u, on: []*stack.Stack{w.Stack}, shards: []*stack.UDPConn{u}, network: r.network, connected: true}, nil
}

// way asks who carries a connection from local (which may be unset) to remote,
// and has the Control hook, where there is one, set its options. fits says that
// they are what the caller gave, which may have been no addresses at all. The
// error is for an OpError.
func (r *race) way(ctx context.Context, local, remote netip.AddrPort, fits bool, address string) (w engine.Way, o options, err error) {
	if fits {
		w, err = r.e.in.Way(family(r.network), local, remote)
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
	if w.Stack == nil || hook == nil {
		return w, o, nil
	}
	o, err = r.e.shadow(ctx, hook, familyOf(r.network, remote.Addr()), address)
	switch {
	case err != nil || o.kernel == "":
		return w, o, err
	case !w.Kernel:
		return w, o, o.needKernel()
	}
	return engine.Way{Why: o.kernel, Kernel: true}, o, nil
}

// kernel has net connect. exactly does so with the addresses as they are.
func (r *race) kernel(ctx context.Context, laddr net.Addr, raddr string, exactly func() (net.Conn, error)) (c net.Conn, err error) {
	if r.style == bare {
		err = r.e.inNS("dial", r.network, func() (err error) { c, err = exactly(); return err })
		return c, err
	}
	d := r.d.std()
	d.LocalAddr = laddr
	return r.e.dialStd(ctx, d, r.network, raddr)
}

// udpOptions are the options of an accelerated UDP socket.
func (e *Engine) udpOptions(o *options) *stack.UDPOptions {
	u := &stack.UDPOptions{IP: o.ip}
	u.RcvBuf, u.SndBuf = e.in.Buffers()
	if o.rcvBuf > 0 {
		u.RcvBuf = o.rcvBuf
	}
	if o.sndBuf > 0 {
		u.SndBuf = o.sndBuf
	}
	return u
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
