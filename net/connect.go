package onload

import (
	"context"
	"net"
	"net/http/httptrace"
	"net/netip"
	"syscall"

	"github.com/onload-go/onload/internal/stack"
)

// tcp dials one address, by the stack or by the kernel.
func (r *race) tcp(ctx context.Context, laddr, raddr *net.TCPAddr) (*TCPConn, error) {
	remote := addrPort(raddr.IP, raddr.Port, raddr.Zone)
	fits := isSocketAddr(raddr.IP, raddr.Port)
	var local netip.AddrPort
	if laddr != nil {
		local = addrPort(laddr.IP, laddr.Port, laddr.Zone)
		fits = fits && isSocketAddr(laddr.IP, laddr.Port)
	}
	fail := func(err error) (*TCPConn, error) {
		return nil, &net.OpError{Op: "dial", Net: r.network, Source: tcpOrNil(laddr), Addr: raddr, Err: err}
	}
	var s *stack.Stack
	why := "Multipath TCP is not accelerated"
	if !r.d.MultipathTCP() {
		var err error
		if s, why, err = r.choose(local, remote, fits); err != nil {
			return fail(cause("connect", err))
		}
	}
	var o options
	if s != nil {
		if hook := r.d.control(); hook != nil {
			var err error
			if o, err = r.e.shadow(ctx, hook, familyOf(r.network, remote.Addr()), raddr.String()); err != nil {
				return fail(err)
			}
			if o.kernel != "" {
				s, why = nil, o.kernel
			}
		}
	}
	kernel := func(why string) (*TCPConn, error) {
		if r.style == bare {
			var k *net.TCPConn
			if err := r.e.inNS("dial", r.network, func() (err error) { k, err = net.DialTCP(r.network, laddr, raddr); return err }); err != nil {
				return nil, err
			}
			return kernelTCPConn(k, r.network, why), nil
		}
		d := r.d.std()
		if d.LocalAddr = nil; laddr != nil {
			d.LocalAddr = laddr
		}
		c, err := r.e.dialStd(ctx, d, r.network, raddr.String())
		if err != nil {
			return nil, err
		}
		return kernelTCPConn(c.(*net.TCPConn), r.network, why), nil
	}
	if s == nil {
		return kernel(why)
	}
	cfg := r.e.tcpConfig(r.d.KeepAlive, r.d.KeepAliveConfig)
	cfg.FastOpenConnect = r.d.FastOpen
	o.apply(cfg, !r.d.KeepAliveConfig.Enable && r.d.KeepAlive < 0)
	done := connectTrace(ctx, r.network, raddr.String())
	c, err := s.DialTCP(ctx, local, remote, &stack.TCPOptions{TCP: cfg, Shared: o.shared(), IP: o.ip})
	done(err)
	if err == syscall.EADDRINUSE && o.shared() && !r.e.memory {
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
	remote := addrPort(raddr.IP, raddr.Port, raddr.Zone)
	fits := isSocketAddr(raddr.IP, raddr.Port)
	var local netip.AddrPort
	if laddr != nil {
		local = addrPort(laddr.IP, laddr.Port, laddr.Zone)
		fits = fits && isSocketAddr(laddr.IP, laddr.Port)
	}
	fail := func(err error) (*UDPConn, error) {
		return nil, &net.OpError{Op: "dial", Net: r.network, Source: udpOrNil(laddr), Addr: raddr, Err: err}
	}
	s, why, err := r.choose(local, remote, fits)
	if err != nil {
		return fail(cause("connect", err))
	}
	var o options
	if s != nil {
		if hook := r.d.control(); hook != nil {
			if o, err = r.e.shadow(ctx, hook, familyOf(r.network, remote.Addr()), raddr.String()); err != nil {
				return fail(err)
			}
			if o.kernel != "" {
				s, why = nil, o.kernel
			}
		}
	}
	kernel := func(why string) (*UDPConn, error) {
		if r.style == bare {
			var k *net.UDPConn
			if err := r.e.inNS("dial", r.network, func() (err error) { k, err = net.DialUDP(r.network, laddr, raddr); return err }); err != nil {
				return nil, err
			}
			return &UDPConn{k: k, network: r.network, why: why}, nil
		}
		d := r.d.std()
		if d.LocalAddr = nil; laddr != nil {
			d.LocalAddr = laddr
		}
		c, err := r.e.dialStd(ctx, d, r.network, raddr.String())
		if err != nil {
			return nil, err
		}
		return &UDPConn{k: c.(*net.UDPConn), network: r.network, why: why}, nil
	}
	if s == nil {
		return kernel(why)
	}
	done := connectTrace(ctx, r.network, raddr.String())
	opts := r.e.udpOptions(&o)
	opts.Shared = o.shared()
	var u *stack.UDPConn
	if err = ctx.Err(); err == nil { // nothing else here would notice
		u, err = s.OpenUDP(local, remote, opts)
	}
	done(err)
	if err == syscall.EADDRINUSE && o.shared() && !r.e.memory {
		return kernel(sharedDial)
	}
	if err != nil {
		return fail(connectCause(err))
	}
	return &UDPConn{s: u, on: []*stack.Stack{s}, shards: []*stack.UDPConn{u}, network: r.network, connected: true}, nil
}

// choose decides who carries a connection from local (which may be unset) to
// remote: a stack, or the kernel, with the reason. fits tells whether they are
// what the caller gave, which may have been no addresses at all.
func (r *race) choose(local, remote netip.AddrPort, fits bool) (s *stack.Stack, why string, err error) {
	dst, src := remote.Addr(), local.Addr()
	v6 := src.Is6() // also ::, which a network of IPv4 refuses
	if src.IsValid() && src.IsUnspecified() {
		src = netip.Addr{}
	}
	kernel := !r.e.memory
	switch last := r.network[len(r.network)-1]; {
	case !fits && !kernel:
		return nil, "", syscall.EINVAL
	case !fits || kernel && last == '4' && v6:
		return nil, "the addresses are invalid", nil // net says how
	case kernel && (!dst.IsValid() || dst.IsUnspecified()):
		return nil, "the destination is this host", nil
	case kernel && (remote.Port() == 0 || src.IsValid() && src.Is4() != dst.Is4() || last == '4' && !dst.Is4() || last == '6' && dst.Is4()):
		return nil, "the addresses are invalid", nil
	}
	return r.e.way(dst, src)
}

// udpOptions are the options of an accelerated UDP socket.
func (e *Engine) udpOptions(o *options) *stack.UDPOptions {
	u := &stack.UDPOptions{RcvBuf: e.cfg.RcvBuf, SndBuf: e.cfg.SndBuf, IP: o.ip}
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
