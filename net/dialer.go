package onload

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Dialer contains options for connecting. It has the fields of net.Dialer,
// with the same meaning; the zero value dials without options. Its methods may
// be called at the same time.
type Dialer struct {
	// Engine makes the connection; nil means the default engine.
	Engine *Engine

	// Timeout is the longest that a dial may take, Deadline the time at which it
	// fails. With several addresses the time is divided among them.
	Timeout  time.Duration
	Deadline time.Time

	// LocalAddr is the address to dial from, of a type that fits the network. nil
	// means that it is chosen automatically.
	LocalAddr Addr

	// DualStack is what net.Dialer has under this name.
	//
	// Deprecated: Fast Fallback is enabled by default. To disable it, set
	// FallbackDelay to a negative value.
	DualStack bool

	// FallbackDelay is the time to wait for the first family of addresses before
	// the other is tried too (RFC 6555). 0 means 300 ms, a negative value never.
	FallbackDelay time.Duration

	// KeepAlive is the interval of keepalive probes. 0 means 15 s, a negative value
	// none. KeepAliveConfig, if enabled, replaces it.
	KeepAlive       time.Duration
	KeepAliveConfig KeepAliveConfig

	// Resolver resolves names; nil is DefaultResolver.
	Resolver *Resolver

	// Cancel, when closed, cancels the dial.
	//
	// Deprecated: Use DialContext instead.
	Cancel <-chan struct{}

	// Control is called before the connection is made, with the network "tcp4",
	// "tcp6", "udp4" or "udp6"; ControlContext, if set, is called instead. For an
	// accelerated connection the RawConn is a socket that is never connected, but
	// whose options count; see the package's description. If only the kernel can
	// follow them, the hook is called again with the kernel's socket.
	Control        func(network, address string, c syscall.RawConn) error
	ControlContext func(ctx context.Context, network, address string, c syscall.RawConn) error

	// FastOpen sends the first data with the SYN, to a server that has given a
	// cookie before (TCP Fast Open, RFC 7413; TCP_FASTOPEN_CONNECT). Dial returns
	// at once; the first Write or Read connects, and returns the errors of
	// connecting. The server may get this data twice. It is not in net.
	FastOpen bool

	mptcp multipath
}

// multipath says whether to use Multipath TCP: net's default, or the program's
// choice.
type multipath uint8

const (
	multipathDefault multipath = iota
	multipathOn
	multipathOff
)

func (m *multipath) set(use bool) {
	*m = multipathOff
	if use {
		*m = multipathOn
	}
}

// MultipathTCP reports whether Multipath TCP will be used. It is never
// accelerated.
func (d *Dialer) MultipathTCP() bool {
	if d.mptcp == multipathDefault {
		return new(net.Dialer).MultipathTCP()
	}
	return d.mptcp == multipathOn
}

// SetMultipathTCP directs the Dial methods to use, or not to use, Multipath
// TCP.
func (d *Dialer) SetMultipathTCP(use bool) { d.mptcp.set(use) }

// Dial connects to the address on the named network, as net.Dial does.
func Dial(network, address string) (Conn, error) { return new(Dialer).Dial(network, address) }

// DialTimeout acts like Dial but takes a timeout, which includes name
// resolution.
func DialTimeout(network, address string, timeout time.Duration) (Conn, error) {
	return (&Dialer{Timeout: timeout}).Dial(network, address)
}

// DialTCP acts like Dial for TCP networks. If laddr is nil, a local address is
// chosen automatically; if the IP of raddr is nil or unspecified, this host is
// assumed.
func DialTCP(network string, laddr, raddr *TCPAddr) (*TCPConn, error) {
	return new(Dialer).dialTCPAddr(context.Background(), bare, network, laddr, raddr)
}

// DialUDP acts like Dial for UDP networks; see DialTCP for the addresses.
func DialUDP(network string, laddr, raddr *UDPAddr) (*UDPConn, error) {
	return new(Dialer).dialUDPAddr(context.Background(), bare, network, laddr, raddr)
}

// Dial connects to the address on the named network.
func (d *Dialer) Dial(network, address string) (Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// DialContext connects to the address on the named network using the provided
// context, which must not be nil and has no effect on the connection once it
// is made. The time left is divided among the addresses of a host.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (Conn, error) {
	ctx, cancel := d.dialCtx(ctx)
	defer cancel()
	e, err := orDefault(d.Engine)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	if !isTCP(network) && !isUDP(network) || !e.in.Accelerates() && !e.in.OwnNS() {
		// There is nothing to decide: net does all of it.
		std := d.std()
		std.FallbackDelay, std.Resolver = d.FallbackDelay, d.resolver(e)
		return e.dialKernel(ctx, std, network, address)
	}
	addrs, err := resolve(withoutConnectTrace(ctx), d.resolver(e), network, address)
	if err == nil {
		addrs, err = matchLocal(addrs, d.LocalAddr)
	}
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	r := &race{d: d, e: e, network: network}
	if d.FallbackDelay >= 0 && network == "tcp" {
		return r.parallel(ctx, addrs)
	}
	return r.serial(ctx, addrs)
}

// DialTCP acts like Dial for TCP networks using the provided context.
func (d *Dialer) DialTCP(ctx context.Context, network string, laddr, raddr netip.AddrPort) (*TCPConn, error) {
	ctx, cancel := d.dialCtx(ctx)
	defer cancel()
	return d.dialTCPAddr(ctx, optioned, network, net.TCPAddrFromAddrPort(laddr), net.TCPAddrFromAddrPort(raddr))
}

// DialUDP acts like Dial for UDP networks using the provided context.
func (d *Dialer) DialUDP(ctx context.Context, network string, laddr, raddr netip.AddrPort) (*UDPConn, error) {
	ctx, cancel := d.dialCtx(ctx)
	defer cancel()
	return d.dialUDPAddr(ctx, optioned, network, net.UDPAddrFromAddrPort(laddr), net.UDPAddrFromAddrPort(raddr))
}

// DialIP acts like Dial for IP networks using the provided context. The kernel
// carries it.
func (d *Dialer) DialIP(ctx context.Context, network string, laddr, raddr netip.Addr) (*IPConn, error) {
	if family, _, _ := strings.Cut(network, ":"); family != "ip" && family != "ip4" && family != "ip6" {
		return nil, &net.OpError{Op: "dial", Net: network, Err: net.UnknownNetworkError(network)}
	}
	if !raddr.IsValid() { // to net it is this host
		if raddr = netip.IPv4Unspecified(); strings.HasPrefix(network, "ip6") {
			raddr = netip.IPv6Unspecified()
		}
	}
	e := *d
	e.LocalAddr = nil
	if laddr.IsValid() {
		e.LocalAddr = &net.IPAddr{IP: laddr.AsSlice(), Zone: laddr.Zone()}
	}
	c, err := e.DialContext(ctx, network, raddr.String())
	if err != nil {
		return nil, err
	}
	return c.(*IPConn), nil
}

// DialUnix acts like Dial for Unix networks using the provided context. The kernel
// carries it.
func (d *Dialer) DialUnix(ctx context.Context, network string, laddr, raddr *UnixAddr) (*UnixConn, error) {
	switch network {
	case "unix", "unixgram", "unixpacket":
	default:
		return nil, &net.OpError{Op: "dial", Net: network, Err: net.UnknownNetworkError(network)}
	}
	e := *d
	e.LocalAddr = nil
	if laddr != nil {
		e.LocalAddr = laddr
	}
	var address string
	if raddr != nil {
		address = raddr.Name
	}
	c, err := e.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return c.(*UnixConn), nil
}

// dialStyle says how net dials the literal addresses that the kernel carries.
type dialStyle bool

const (
	optioned dialStyle = false // as text, by a net.Dialer with the options of ours
	bare     dialStyle = true  // as they are, which net does only without options
)

// dialTCPAddr is DialTCP for one address.
func (d *Dialer) dialTCPAddr(ctx context.Context, style dialStyle, network string, laddr, raddr *net.TCPAddr) (*TCPConn, error) {
	fail := func(err error) (*TCPConn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Source: tcpOrNil(laddr), Addr: tcpOrNil(raddr), Err: err}
	}
	if !isTCP(network) {
		return fail(net.UnknownNetworkError(network))
	}
	if raddr == nil {
		return fail(errMissingAddress)
	}
	e, err := orDefault(d.Engine)
	if err != nil {
		return fail(err)
	}
	return (&race{d: d, e: e, network: network, style: style}).tcp(ctx, laddr, raddr)
}

func (d *Dialer) dialUDPAddr(ctx context.Context, style dialStyle, network string, laddr, raddr *net.UDPAddr) (*UDPConn, error) {
	fail := func(err error) (*UDPConn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Source: udpOrNil(laddr), Addr: udpOrNil(raddr), Err: err}
	}
	if !isUDP(network) {
		return fail(net.UnknownNetworkError(network))
	}
	if raddr == nil {
		return fail(errMissingAddress)
	}
	e, err := orDefault(d.Engine)
	if err != nil {
		return fail(err)
	}
	return (&race{d: d, e: e, network: network, style: style}).udp(ctx, laddr, raddr)
}

// dialCtx applies Timeout, Deadline and Cancel to ctx.
func (d *Dialer) dialCtx(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx == nil {
		panic("nil context")
	}
	deadline := d.Deadline
	if d.Timeout != 0 { // a negative one is a deadline that has passed
		if at := time.Now().Add(d.Timeout); deadline.IsZero() || at.Before(deadline) {
			deadline = at
		}
	}
	if deadline.IsZero() && d.Cancel == nil {
		return ctx, func() {}
	}
	var cancel context.CancelFunc
	if deadline.IsZero() {
		ctx, cancel = context.WithCancel(ctx)
	} else {
		ctx, cancel = context.WithDeadline(ctx, deadline)
	}
	if d.Cancel != nil {
		go func() {
			select {
			case <-d.Cancel:
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	return ctx, cancel
}

// std returns net's dialer for one address. The context limits its time.
func (d *Dialer) std() *net.Dialer {
	s := &net.Dialer{
		LocalAddr:       d.LocalAddr,
		FallbackDelay:   -1,
		KeepAlive:       d.KeepAlive,
		KeepAliveConfig: d.KeepAliveConfig,
		Control:         d.Control,
		ControlContext:  d.ControlContext,
	}
	if d.FastOpen {
		s.Control, s.ControlContext = nil, d.fastControl()
	}
	if d.mptcp != multipathDefault {
		s.SetMultipathTCP(d.mptcp == multipathOn)
	}
	return s
}

// fastControl calls Control and then sets FastOpen's option.
func (d *Dialer) fastControl() controlFunc {
	hook := d.control()
	return func(ctx context.Context, network, address string, c syscall.RawConn) error {
		if hook != nil {
			if err := hook(ctx, network, address, c); err != nil {
				return err
			}
		}
		if !isTCP(network) {
			return nil
		}
		// A kernel with Fast Open turned off connects as usual.
		return c.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1)
		})
	}
}

func (d *Dialer) resolver(e *Engine) *Resolver {
	switch {
	case d.Resolver != nil:
		return d.Resolver
	case len(e.in.NameServers()) > 0:
		return &net.Resolver{PreferGo: true, Dial: e.dialNameServer}
	case e.in.OwnNS():
		return &net.Resolver{PreferGo: true, Dial: e.dialInNS}
	}
	return DefaultResolver
}

// control returns the hook, or nil.
func (d *Dialer) control() controlFunc {
	if d.ControlContext != nil || d.Control == nil {
		return d.ControlContext
	}
	return func(_ context.Context, network, address string, c syscall.RawConn) error {
		return d.Control(network, address, c)
	}
}

func isTCP(network string) bool {
	return network == "tcp" || network == "tcp4" || network == "tcp6"
}

func isUDP(network string) bool {
	return network == "udp" || network == "udp4" || network == "udp6"
}

// familyOf returns the network with the family of a, as Control hooks get it.
func familyOf(network string, a netip.Addr) string {
	network = strings.TrimRight(network, "46")
	if a.Is4() {
		return network + "4"
	}
	return network + "6"
}
