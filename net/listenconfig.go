package onload

import (
	"context"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/engine"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/tcp"
)

// ListenConfig contains options for listening. It has the fields of
// net.ListenConfig, with the same meaning.
type ListenConfig struct {
	// Engine listens; nil means the default engine.
	Engine *Engine

	// Control is called before the kernel's socket is bound, which holds the port
	// and serves local clients. The options set there hold for accelerated
	// connections too. If only the kernel can follow them, it serves all clients;
	// see the package's description. An Engine without a kernel calls Control with
	// a socket that is never bound.
	Control func(network, address string, c syscall.RawConn) error

	// KeepAlive is the interval of keepalive probes of accepted connections. 0
	// means 15 s, a negative value none. KeepAliveConfig, if enabled, replaces it.
	KeepAlive       time.Duration
	KeepAliveConfig KeepAliveConfig

	// DeferAccept delays Accept of a TCP connection until the client has sent
	// data, at most for that time, in whole seconds (TCP_DEFER_ACCEPT). It is not
	// in net.
	DeferAccept time.Duration

	// FastOpen is the number of TCP connections that may be open before their
	// handshake is complete (TCP Fast Open, RFC 7413; TCP_FASTOPEN): clients known
	// by a cookie may send data with the SYN. 0: such data waits for the
	// handshake. A client may send the same SYN twice, so requests must bear being
	// answered twice. It is not in net.
	FastOpen int

	// FastOpenKey is the secret that cookies are made of. Servers behind one
	// address, Linux's own among them, accept each other's cookies if they share
	// it. It is one key or two, as in Linux's tcp_fastopen_key: numbers of 32 bits
	// in hexadecimal, "a-b-c-d" or "a-b-c-d,e-f-g-h". A client with a cookie of
	// the second key gets one of the first, so keys can be changed. "": a secret
	// of the process, whose cookies expire. The kernel's socket gets the key too
	// (TCP_FASTOPEN_KEY). It is not in net.
	FastOpenKey string

	// ReplyFromDestination has the answers of a UDP socket leave from the address
	// that the question was sent to: what WriteTo and WriteToUDP send to an address
	// that ReadFrom or ReadFromUDP returned. Else the route decides, and clients
	// drop what comes from another of the host's addresses. It is for servers on a
	// wildcard address that use no control messages, such as miekg/dns; the socket
	// has IP_PKTINFO and IPV6_RECVPKTINFO set. It is not in net.
	ReplyFromDestination bool

	mptcp multipath
}

// MultipathTCP reports whether clients may use Multipath TCP. That concerns the
// clients that the kernel serves.
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

// kernelControl calls Control and then sets the options of DeferAccept, FastOpen,
// FastOpenKey and ReplyFromDestination.
func (lc *ListenConfig) kernelControl() func(network, address string, c syscall.RawConn) error {
	seconds := int((lc.DeferAccept + time.Second - 1) / time.Second)
	if seconds <= 0 && lc.FastOpen <= 0 && !lc.ReplyFromDestination {
		return lc.Control
	}
	return func(network, address string, c syscall.RawConn) (err error) {
		if lc.Control != nil {
			if err := lc.Control(network, address, c); err != nil {
				return err
			}
		}
		if isUDP(network) && lc.ReplyFromDestination {
			return askDestination(c)
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

// shards returns the stacks that receive at at, and the options that the Control
// hook has set. hooked says that k may have options of somebody's. k is the kernel's socket, which is bound to own, unless there is none.
// unshare is for when the socket closes. The error is for an OpError.
func (lc *ListenConfig) shards(ctx context.Context, e *Engine, network string, at netip.Addr, address string, k syscall.Conn, own netip.AddrPort, hooked bool) (sh engine.Shards, o engine.Options, unshare func(), err error) {
	f := family(network)
	switch {
	case !hooked || !e.in.Accelerates():
	case k != nil:
		if o, f, err = e.in.TwinOptions(k); err != nil {
			return sh, o, nil, cause("bind", err)
		}
	default:
		hook := func(_ context.Context, network, address string, c syscall.RawConn) error {
			return lc.Control(network, address, c)
		}
		if o, err = e.options(ctx, hook, network, at, address); err == nil && o.Kernel != "" {
			err = o.NeedKernel()
		}
		if err != nil {
			return sh, o, nil, err
		}
		if o.Only6() {
			f = engine.IPv6
		}
	}
	sh = e.in.Shards(f, at)
	sh.Twin = k
	unshare = func() {}
	if (len(sh.Stacks) > 0 || sh.Later) && k != nil {
		unshare = e.in.Share(&o, proto(network), own)
	}
	if o.Kernel != "" {
		sh.Stacks, sh.Why, sh.Later = nil, o.Kernel, false
	}
	return sh, o, unshare, nil
}

// options calls a Control hook with a socket that is never connected, and returns
// the options that it set. a is the address to bind or to connect to.
func (e *Engine) options(ctx context.Context, hook controlFunc, network string, a netip.Addr, address string) (engine.Options, error) {
	network = familyOf(network, a)
	return e.in.Hook(proto(network), family(network), func(c syscall.RawConn) error { return hook(ctx, network, address, c) })
}

// controlFunc is a Control hook with a context.
type controlFunc = func(ctx context.Context, network, address string, c syscall.RawConn) error

// proto is the transport of a network such as "tcp4".
func proto(network string) uint8 {
	if isTCP(network) {
		return ip.ProtoTCP
	}
	return ip.ProtoUDP
}
