package onload

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"

	"go.uber.org/zap"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/engine"
	"github.com/onload-go/onload/internal/event"
	"github.com/onload-go/onload/internal/outside"
	"github.com/onload-go/onload/tcp"
)

// Listen announces on the local network address, as net.Listen does. On an address
// of an accelerated interface, or on all addresses (a wildcard), clients of
// accelerated interfaces are accelerated; the kernel serves all others.
func Listen(network, address string) (Listener, error) {
	return new(ListenConfig).Listen(context.Background(), network, address)
}

// ListenTCP acts like Listen for TCP networks.
func ListenTCP(network string, laddr *TCPAddr) (*TCPListener, error) {
	return new(ListenConfig).listenTCPAddr(network, laddr)
}

// ListenPacket announces on the local network address, as net.ListenPacket does.
// For UDP see ListenUDP; the kernel carries everything else.
func ListenPacket(network, address string) (PacketConn, error) {
	return new(ListenConfig).ListenPacket(context.Background(), network, address)
}

// ListenUDP acts like ListenPacket for UDP networks. On an address of an
// accelerated interface, or on all addresses, datagrams of accelerated interfaces
// are accelerated; all others go through the kernel.
func ListenUDP(network string, laddr *UDPAddr) (*UDPConn, error) {
	return new(ListenConfig).listenUDPAddr(network, laddr)
}

// ListenMulticastUDP opens a socket that has joined the group gaddr on ifi, nil
// for the system's choice, as net.ListenMulticastUDP does. The group's datagrams
// are accelerated while no other program has a socket at the port, which the kernel
// would give them to as well; all other datagrams are the kernel's.
func ListenMulticastUDP(network string, ifi *Interface, gaddr *UDPAddr) (*UDPConn, error) {
	e, err := Default()
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: udpOrNil(gaddr), Err: err}
	}
	return e.listenGroup(network, ifi, gaddr)
}

// Listen announces on the local network address. ctx is for resolving the
// address only.
func (lc *ListenConfig) Listen(ctx context.Context, network, address string) (Listener, error) {
	e, err := orDefault(lc.Engine)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	if !isTCP(network) {
		return e.listenStd(ctx, lc.std(), network, address)
	}
	a, err := e.listenAddr(ctx, network, address)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	l, err := lc.listenTCP(ctx, e, optioned, network, a.(*net.TCPAddr))
	if err != nil {
		return nil, err
	}
	return l, nil
}

// ListenPacket announces on the local network address. ctx is for resolving
// the address only.
func (lc *ListenConfig) ListenPacket(ctx context.Context, network, address string) (PacketConn, error) {
	e, err := orDefault(lc.Engine)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	if !isUDP(network) {
		return e.listenPacketStd(ctx, lc.std(), network, address)
	}
	a, err := e.listenAddr(ctx, network, address)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	c, err := lc.listenUDP(ctx, e, optioned, network, a.(*net.UDPAddr))
	if err != nil {
		return nil, err
	}
	if lc.ReplyFromDestination {
		c.engine = e
	}
	return c, nil
}

// listenAddr resolves the address to listen on: the first of IPv4, else the first.
func (e *Engine) listenAddr(ctx context.Context, network, address string) (net.Addr, error) {
	if address == "" {
		if isTCP(network) {
			return &net.TCPAddr{}, nil
		}
		return &net.UDPAddr{}, nil
	}
	addrs, err := resolve(ctx, (&Dialer{}).resolver(e), network, address)
	if err != nil {
		return nil, err
	}
	for _, a := range addrs {
		if ipOf(a).To4() != nil {
			return a, nil
		}
	}
	return addrs[0], nil
}

func (lc *ListenConfig) listenTCPAddr(network string, laddr *net.TCPAddr) (*TCPListener, error) {
	fail := func(err error) (*TCPListener, error) {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: tcpOrNil(laddr), Err: err}
	}
	if !isTCP(network) {
		return fail(net.UnknownNetworkError(network))
	}
	e, err := orDefault(lc.Engine)
	if err != nil {
		return fail(err)
	}
	if laddr == nil {
		laddr = &net.TCPAddr{}
	}
	return lc.listenTCP(context.Background(), e, bare, network, laddr)
}

func (lc *ListenConfig) listenUDPAddr(network string, laddr *net.UDPAddr) (*UDPConn, error) {
	fail := func(err error) (*UDPConn, error) {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: udpOrNil(laddr), Err: err}
	}
	if !isUDP(network) {
		return fail(net.UnknownNetworkError(network))
	}
	e, err := orDefault(lc.Engine)
	if err != nil {
		return fail(err)
	}
	if laddr == nil {
		laddr = &net.UDPAddr{}
	}
	return lc.listenUDP(context.Background(), e, bare, network, laddr)
}

// listenTCP listens on laddr: by the kernel, whose socket holds the port, and on
// every stack that receives for the address.
func (lc *ListenConfig) listenTCP(ctx context.Context, e *Engine, style dialStyle, network string, laddr *net.TCPAddr) (*TCPListener, error) {
	fail := func(err error) (*TCPListener, error) {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: laddr, Err: err}
	}
	keys, err := lc.fastOpenKeys()
	if err != nil {
		return fail(err)
	}
	at := addrPort(laddr.IP, laddr.Port, laddr.Zone)
	l := &TCPListener{e: e, network: network}
	var twin syscall.Conn
	own := at
	if e.in.Twin(at.Addr()) {
		e.in.Vacate(proto(network), at)
		if l.k, err = lc.kernelTCP(ctx, e, style, network, laddr); err != nil {
			return nil, err
		}
		own = l.k.Addr().(*net.TCPAddr).AddrPort()
		twin, l.wide = l.k, isWide(l.k.Addr())
	} else if !isSocketAddr(laddr.IP, laddr.Port) {
		return fail(cause("bind", syscall.EINVAL))
	}
	sh, o, unshare, err := lc.shards(ctx, e, network, at.Addr(), laddr.String(), twin, own, lc.Control != nil)
	if err != nil {
		if l.k != nil {
			_ = l.k.Close()
		}
		return fail(err)
	}
	if l.k == nil && len(sh.Stacks) == 0 {
		return fail(cause("bind", syscall.EADDRNOTAVAIL))
	}
	cfg := e.tcpConfig(lc.KeepAlive, lc.KeepAliveConfig)
	cfg.DeferAccept, cfg.FastOpen, cfg.FastOpenKeys = lc.DeferAccept, lc.FastOpen, keys
	if err := l.begin(&sh, own, cfg, &o, unshare, !lc.KeepAliveConfig.Enable && lc.KeepAlive < 0); err != nil {
		return fail(err)
	}
	return l, nil
}

// begin listens on the stacks, with l.k beside them unless that is nil. If it fails, l.k
// is closed. keepAlive says whether o's options of keepalive count.
func (l *TCPListener) begin(sh *engine.Shards, own netip.AddrPort, cfg *tcp.Config, o *engine.Options, unshare func(), keepAlive bool) error {
	e := l.e
	if len(sh.Stacks) == 0 && !sh.Later {
		l.why = sh.Why
		return nil
	}
	o.Apply(cfg, keepAlive)
	on, err := e.in.Listen(sh, own.Port(), l.k != nil, cfg, o)
	switch {
	case err == syscall.EADDRINUSE && l.k != nil:
		unshare()
		e.in.Log().Warn(sharedPort, event.SocketDeaf.Field(), zap.Stringer("address", l.k.Addr()))
		l.why = sharedPort
		return nil
	case l.k != nil && errors.Is(err, driver.ErrRefused):
		unshare()
		l.why = e.in.Refused(err)
		return nil
	case err != nil:
		if l.k != nil {
			_ = l.k.Close()
			unshare()
		}
		return cause("bind", err)
	}
	outside.Do(func() { // of a bubble, which the pump would keep from ending
		l.open(on, unshare)
		if l.k != nil {
			l.pumped.Go(l.pump)
		}
	})
	if l.k != nil {
		if !e.in.Track(l, l.close) {
			_ = l.close()
			return net.ErrClosed
		}
	}
	return nil
}

// listenUDP opens a socket bound to laddr: the kernel's, which holds the port,
// and one on every stack that receives for the address.
func (lc *ListenConfig) listenUDP(ctx context.Context, e *Engine, style dialStyle, network string, laddr *net.UDPAddr) (*UDPConn, error) {
	fail := func(err error) (*UDPConn, error) {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: laddr, Err: err}
	}
	at := addrPort(laddr.IP, laddr.Port, laddr.Zone)
	var k *net.UDPConn
	var twin syscall.Conn
	var err error
	own := at
	if e.in.Twin(at.Addr()) {
		e.in.Vacate(proto(network), at)
		if k, err = lc.kernelUDP(ctx, e, style, network, laddr); err != nil {
			return nil, err
		}
		twin, own = k, k.LocalAddr().(*net.UDPAddr).AddrPort()
	} else if !isSocketAddr(laddr.IP, laddr.Port) {
		return fail(cause("bind", syscall.EINVAL))
	}
	if k != nil && at.Addr().IsMulticast() {
		return e.overGroup(k, network, laddr)
	}
	sh, o, unshare, err := lc.shards(ctx, e, network, at.Addr(), laddr.String(), twin, own, lc.Control != nil)
	if err != nil {
		if k != nil {
			_ = k.Close()
		}
		return fail(err)
	}
	if len(sh.Stacks) == 0 {
		if k == nil {
			o.CloseSocket()
			return fail(cause("bind", syscall.EADDRNOTAVAIL))
		}
		unshare()
		return kernelUDPConn(k, sh.Why), nil
	}
	c, err := e.bindUDP(&sh, k, network, own.Port(), o, unshare)
	if err != nil {
		if why := e.in.Refused(err); why != "" && k != nil {
			unshare()
			return kernelUDPConn(k, why), nil
		}
		if k != nil {
			_ = k.Close()
			unshare()
		}
		return fail(cause("bind", err))
	}
	if lc.ReplyFromDestination {
		c.always = recvDestination
		c.recv.Or(uint32(recvDestination))
	}
	return newUDPConn(c), nil
}

// kernelTCP is the kernel's listener on laddr.
func (lc *ListenConfig) kernelTCP(ctx context.Context, e *Engine, style dialStyle, network string, laddr *net.TCPAddr) (k *net.TCPListener, err error) {
	if style == bare {
		err = e.inNS("listen", network, func() error {
			k, err = net.ListenTCP(network, laddr)
			return err
		})
		return k, err
	}
	l, err := e.listenStd(ctx, lc.std(), network, laddr.String())
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// kernelUDP is the kernel's socket bound to laddr.
func (lc *ListenConfig) kernelUDP(ctx context.Context, e *Engine, style dialStyle, network string, laddr *net.UDPAddr) (k *net.UDPConn, err error) {
	if style == bare {
		err = e.inNS("listen", network, func() error {
			k, err = net.ListenUDP(network, laddr)
			return err
		})
		return k, err
	}
	c, err := e.listenPacketStd(ctx, lc.std(), network, laddr.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

// sharedPort is why a socket gets no accelerated traffic: the kernel gave it a port
// that another socket of the engine has too (UDP with SO_REUSEADDR).
const sharedPort = "another socket of this engine has the accelerated port"

// listenStd and listenPacketStd call net's Listen and ListenPacket in the
// engine's namespace.
func (e *Engine) listenStd(ctx context.Context, lc *net.ListenConfig, network, address string) (l net.Listener, err error) {
	err = e.inNS("listen", network, func() error {
		l, err = lc.Listen(ctx, network, address)
		return err
	})
	return l, err
}

func (e *Engine) listenPacketStd(ctx context.Context, lc *net.ListenConfig, network, address string) (c net.PacketConn, err error) {
	err = e.inNS("listen", network, func() error {
		c, err = lc.ListenPacket(ctx, network, address)
		return err
	})
	return c, err
}
