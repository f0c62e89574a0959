package onload

import (
	"context"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/tcp"
)

// ListenConfig contains options for listening. It has the fields of
// net.ListenConfig, with the same meaning.
type ListenConfig struct {
	// Engine is what listens; nil is the default one.
	Engine *Engine

	// Control is called before the kernel's socket is bound: the one that
	// holds the port and serves local clients. What it sets there holds for
	// accelerated connections too, or has the kernel serve all; see the
	// package's description. An Engine without a kernel calls it with a socket
	// that is never bound.
	Control func(network, address string, c syscall.RawConn) error

	// KeepAlive is the interval of keepalive probes of accepted connections: 0
	// is 15 s, below 0 none. KeepAliveConfig, when enabled, replaces it.
	KeepAlive       time.Duration
	KeepAliveConfig KeepAliveConfig

	// DeferAccept has Accept return a TCP connection only when the client has
	// sent data, or that time, in whole seconds, is over (TCP_DEFER_ACCEPT).
	// It is not in net.
	DeferAccept time.Duration

	// FastOpen is how many TCP connections may be open whose handshake is not
	// complete, since their clients, known by a cookie, sent data with the SYN
	// (TCP Fast Open, RFC 7413; TCP_FASTOPEN); 0: such data waits for the
	// handshake. Clients may send the same SYN twice: this is for requests
	// that may be answered twice. It is not in net.
	FastOpen int

	// FastOpenKey is the secret that cookies are made of, for servers behind one
	// address that are to take each other's, Linux's own among them: one key, or
	// two, as Linux's tcp_fastopen_key has them, 32 bits a number in hexadecimal,
	// "a-b-c-d" or "a-b-c-d,e-f-g-h". Clients whose cookie is of the second are
	// given one of the first, so that keys can be changed. "": a secret of the
	// process's, whose cookies expire. The kernel's socket gets it too
	// (TCP_FASTOPEN_KEY). It is not in net.
	FastOpenKey string

	mptcp multipath
}

// MultipathTCP reports whether clients may use Multipath TCP. That is for
// those that the kernel serves.
func (lc *ListenConfig) MultipathTCP() bool {
	if lc.mptcp == multipathDefault {
		return new(net.ListenConfig).MultipathTCP()
	}
	return lc.mptcp == multipathOn
}

// SetMultipathTCP directs Listen to allow, or not to allow, Multipath TCP.
func (lc *ListenConfig) SetMultipathTCP(use bool) { lc.mptcp.set(use) }

func (lc *ListenConfig) std() *net.ListenConfig {
	s := &net.ListenConfig{Control: lc.kernelControl(), KeepAlive: lc.KeepAlive, KeepAliveConfig: lc.KeepAliveConfig}
	if lc.mptcp != multipathDefault {
		s.SetMultipathTCP(lc.mptcp == multipathOn)
	}
	return s
}

// fastOpenKeys reads FastOpenKey.
func (lc *ListenConfig) fastOpenKeys() (tcp.FastOpenKeys, error) {
	if lc.FastOpenKey == "" {
		return tcp.FastOpenKeys{}, nil
	}
	return tcp.ParseFastOpenKeys(lc.FastOpenKey)
}

// kernelControl is Control, and what DeferAccept, FastOpen and FastOpenKey ask
// of the kernel's socket.
func (lc *ListenConfig) kernelControl() func(network, address string, c syscall.RawConn) error {
	seconds := int((lc.DeferAccept + time.Second - 1) / time.Second)
	if seconds <= 0 && lc.FastOpen <= 0 {
		return lc.Control
	}
	return func(network, address string, c syscall.RawConn) (err error) {
		if lc.Control != nil {
			if err := lc.Control(network, address, c); err != nil {
				return err
			}
		}
		if !isTCP(network) {
			return nil
		}
		if failed := c.Control(func(fd uintptr) {
			if seconds > 0 {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, seconds)
			}
			if lc.FastOpen > 0 && err == nil {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_FASTOPEN, lc.FastOpen)
				if keys, _ := lc.fastOpenKeys(); keys.N > 0 && err == nil {
					err = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_FASTOPEN_KEY, string(keys.Bytes()))
				}
			}
		}); failed != nil {
			return failed
		}
		return os.NewSyscallError("setsockopt", err)
	}
}

// Listen announces on the local network address, as net.Listen does: on an
// address of an accelerated interface, or on all (a wildcard), clients of
// those interfaces are accelerated and all others served by the kernel.
func Listen(network, address string) (Listener, error) {
	return new(ListenConfig).Listen(context.Background(), network, address)
}

// ListenTCP acts like Listen for TCP networks.
func ListenTCP(network string, laddr *TCPAddr) (*TCPListener, error) {
	return new(ListenConfig).listenTCPAddr(network, laddr)
}

// ListenPacket announces on the local network address, as net.ListenPacket
// does. For UDP see ListenUDP; all else is the kernel's.
func ListenPacket(network, address string) (PacketConn, error) {
	return new(ListenConfig).ListenPacket(context.Background(), network, address)
}

// ListenUDP acts like ListenPacket for UDP networks. On an address of an
// accelerated interface, or on all, its datagrams are accelerated and all
// others go through the kernel.
func ListenUDP(network string, laddr *UDPAddr) (*UDPConn, error) {
	return new(ListenConfig).listenUDPAddr(network, laddr)
}

// ListenMulticastUDP is net.ListenMulticastUDP: multicast is the kernel's.
func ListenMulticastUDP(network string, ifi *Interface, gaddr *UDPAddr) (*UDPConn, error) {
	e, err := Default()
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: udpOrNil(gaddr), Err: err}
	}
	var k *net.UDPConn
	err = e.inNS("listen", network, func() error {
		k, err = net.ListenMulticastUDP(network, ifi, gaddr)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &UDPConn{k: k, network: network, why: "multicast is not accelerated"}, nil
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
	return c, nil
}

// listenAddr resolves the address to listen on: the first of IPv4, else the
// first.
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

// listenTCP listens on laddr: by the kernel, whose socket holds the port, and
// on every stack that receives for the address.
func (lc *ListenConfig) listenTCP(ctx context.Context, e *Engine, style dialStyle, network string, laddr *net.TCPAddr) (*TCPListener, error) {
	fail := func(err error) (*TCPListener, error) {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: laddr, Err: cause("bind", err)}
	}
	keys, err := lc.fastOpenKeys()
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: laddr, Err: err}
	}
	at := addrPort(laddr.IP, laddr.Port, laddr.Zone)
	l := &TCPListener{e: e, network: network}
	var o options
	shardsOf := family(network)
	if e.in.Twin(at.Addr()) {
		if l.k, err = lc.kernelTCP(ctx, e, style, network, laddr); err != nil {
			return nil, err
		}
		l.wide = isWide(l.k.Addr())
		at = netip.AddrPortFrom(at.Addr(), uint16(l.k.Addr().(*net.TCPAddr).Port))
		if lc.Control != nil && e.in.Accelerates() {
			if o, shardsOf, err = e.twinOptions(l.k); err != nil {
				_ = l.k.Close()
				return fail(err)
			}
		}
	} else if !isSocketAddr(laddr.IP, laddr.Port) {
		return fail(syscall.EINVAL)
	} else if lc.Control != nil {
		if o, shardsOf, err = lc.listenOptions(ctx, e, network, at.Addr(), laddr.String()); err != nil {
			return nil, &net.OpError{Op: "listen", Net: network, Addr: laddr, Err: err}
		}
	}
	sh := e.in.Shards(shardsOf, at.Addr())
	if len(sh.Stacks) > 0 && l.k != nil {
		l.unshare = o.share(e, network, l.k.Addr().(*net.TCPAddr).AddrPort())
	}
	if o.kernel != "" {
		sh.Stacks, sh.Why = nil, o.kernel
	}
	if len(sh.Stacks) == 0 {
		if l.k == nil {
			return fail(syscall.EADDRNOTAVAIL)
		}
		l.why = sh.Why
		return l, nil
	}
	cfg := e.tcpConfig(lc.KeepAlive, lc.KeepAliveConfig)
	cfg.DeferAccept, cfg.FastOpen, cfg.FastOpenKeys = lc.DeferAccept, lc.FastOpen, keys
	o.apply(cfg, !lc.KeepAliveConfig.Enable && lc.KeepAlive < 0)
	err = l.open(sh.Stacks, netip.AddrPortFrom(sh.Addr, at.Port()), &stack.TCPOptions{TCP: cfg, PortHeld: l.k != nil, Shared: o.reusePort, IP: o.ip})
	switch {
	case err == syscall.EADDRINUSE && l.k != nil:
		l.unshare()
		e.in.Log().Warn(sharedPort, zap.Stringer("address", l.k.Addr()))
		l.why = sharedPort
		return l, nil
	case err != nil:
		_ = l.close()
		return fail(err)
	}
	l.linger = o.linger
	if l.k != nil {
		l.pumped.Go(l.pump)
		if !e.in.Track(l, l.close) {
			_ = l.close()
			return fail(net.ErrClosed)
		}
	}
	return l, nil
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

// sharedPort is why a socket to which the kernel gave a port that another
// socket of the engine has too (UDP with SO_REUSEADDR) gets nothing of the
// accelerated traffic.
const sharedPort = "another socket of this engine has the accelerated port"

// listenStd and listenPacketStd have net listen, in the engine's namespace.
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
