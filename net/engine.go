package onload

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/internal/netns"
	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/tcp"
)

// Engine is a set of accelerated interfaces, and the kernel's sockets for all
// else. Its methods are those of the package with the same names. Several
// engines may live in one process, but a queue of an interface belongs to one.
type Engine struct {
	cfg  Config
	log  *zap.Logger
	ns   netns.Handle    // zero: the process's own
	net  control.Network // nil: nothing is accelerated
	port *control.KernelPorts
	ifs  []*iface

	open    openSockets
	sharers sharers
	fresh   freshStates

	memory bool   // no kernel behind it
	none   string // why nothing is accelerated, where net is nil

	noticed   sync.Once
	closeOnce sync.Once
	closeErr  error
}

// iface is an interface that was asked for.
type iface struct {
	name  string
	index int
	stack *stack.Stack // nil: see err
	err   error
}

// New makes an Engine. It uses nothing but c; see ConfigFromEnv for the
// settings of the environment, which New only checks: unknown or invalid
// ONLOAD_* variables are an error here too.
func New(c Config) (*Engine, error) {
	_, err := ConfigFromEnv()
	if err := errors.Join(err, c.check()); err != nil {
		return nil, err
	}
	return open(c)
}

var defaultEngine struct {
	sync.Mutex
	engine *Engine
	err    error
}

// Default returns the engine behind the package-level functions, which is
// made from the ONLOAD_* variables on first use and never closed. An error is
// kept, and is what those functions return.
func Default() (*Engine, error) {
	d := &defaultEngine
	d.Lock()
	defer d.Unlock()
	if d.engine == nil && d.err == nil {
		var c Config
		if c, d.err = ConfigFromEnv(); d.err == nil {
			d.engine, d.err = open(c)
		}
	}
	return d.engine, d.err
}

// orDefault is e, or Default.
func orDefault(e *Engine) (*Engine, error) {
	if e != nil {
		return e, nil
	}
	return Default()
}

func newEngine(c Config) *Engine {
	e := &Engine{cfg: c, log: c.Logger}
	if e.log == nil {
		e.log = newLogger(zap.WarnLevel)
	}
	return e
}

// open makes the engine that c asks for. c is valid.
func open(c Config) (_ *Engine, err error) {
	e := newEngine(c)
	defer func() {
		if err != nil {
			_ = e.Close()
		}
	}()
	if c.NetNS != "" {
		if e.ns, err = netns.Open(c.NetNS); err != nil {
			return nil, fmt.Errorf("onload: Config.NetNS: %w", err)
		}
	}
	if len(c.Interfaces) == 0 {
		e.none = noInterface
		return e, nil
	}
	if err = e.openInterfaces(); err != nil {
		return nil, err
	}
	return e, nil
}

// Close resets the accelerated connections, closes the accelerated listeners
// and UDP sockets, the kernel's part of them included, and gives the interfaces
// back to the kernel. Connections that the kernel carries are left alone.
func (e *Engine) Close() error {
	e.closeOnce.Do(func() {
		e.open.close()
		var errs []error
		for _, i := range e.ifs {
			if i.stack != nil {
				errs = append(errs, i.stack.Close())
			}
		}
		if e.net != nil {
			errs = append(errs, e.net.Close())
		}
		if e.port != nil {
			errs = append(errs, e.port.Close())
		}
		errs = append(errs, e.ns.Close())
		e.closeErr = errors.Join(errs...)
	})
	return e.closeErr
}

// openSockets are those that have a part of the kernel's, which is to end with
// the engine: it would take clients that nobody serves.
type openSockets struct {
	mu     sync.Mutex
	closed bool
	m      map[partly]struct{}
}

type partly interface{ close() error }

// add is false where the engine has been closed.
func (o *openSockets) add(s partly) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.m == nil {
		o.m = map[partly]struct{}{}
	}
	o.m[s] = struct{}{}
	return !o.closed
}

func (o *openSockets) remove(s partly) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.m, s)
}

func (o *openSockets) close() {
	o.mu.Lock()
	o.closed = true
	all := slices.Collect(maps.Keys(o.m))
	o.mu.Unlock()
	for _, s := range all { // each removes itself
		_ = s.close()
	}
}

// accelerates tells whether anything at all may be accelerated.
func (e *Engine) accelerates() bool { return e.net != nil }

// stackOf returns the stack that carries the traffic of a link, or why there
// is none.
func (e *Engine) stackOf(index int) (s *stack.Stack, why string) {
	l, ok := e.net.Link(index)
	if !ok {
		return nil, fmt.Sprintf("interface %d is unknown", index)
	}
	for _, i := range e.ifs {
		if i.index != index && (l.VLAN == 0 || i.index != l.Parent) {
			continue
		}
		if i.stack == nil {
			return nil, fmt.Sprintf("%s: %v", i.name, i.err)
		}
		if err := i.stack.Err(); err != nil {
			return nil, fmt.Sprintf("%s: %v", i.name, err)
		}
		return i.stack, ""
	}
	return nil, fmt.Sprintf("interface %s is not accelerated", l.Name)
}

// way chooses who carries packets to dst, from src unless that is invalid: a
// stack, or the kernel, with the reason. err is for engines without a kernel.
func (e *Engine) way(dst, src netip.Addr) (s *stack.Stack, why string, err error) {
	if !e.accelerates() {
		return nil, e.notice(), nil
	}
	if dst.Zone() != "" || src.Zone() != "" {
		return nil, "the address has a zone", nil
	}
	if e.memory {
		s, err = e.memoryWay(dst, src)
		return s, "", err
	}
	r, err := e.net.Route(dst, src)
	switch {
	case err != nil:
		// The kernel finds the same, in its own words.
		return nil, fmt.Sprintf("no route: %v", err), nil
	case r.Local:
		return nil, "the destination is this host", nil
	case r.Multicast:
		return nil, "the destination is a multicast group", nil
	case r.Broadcast:
		return nil, "the destination is a broadcast address", nil
	}
	s, why = e.stackOf(r.Link)
	if s == nil || !src.IsValid() {
		return s, why, nil
	}
	// Replies come in where src lives.
	if from, ok := e.net.Local(src); !ok {
		return nil, "the local address is not ours", nil
	} else if t, why := e.stackOf(from); t != s {
		if why == "" {
			why = "the local address is of another interface than the route"
		}
		return nil, why, nil
	}
	return s, "", nil
}

// stacks are those that work.
func (e *Engine) stacks() []*stack.Stack {
	var l []*stack.Stack
	for _, i := range e.ifs {
		if i.stack != nil && i.stack.Err() == nil {
			l = append(l, i.stack)
		}
	}
	return l
}

// shards are the stacks on which a socket bound to addr, of that network,
// receives, and the address to bind there. why tells why there are none.
func (e *Engine) shards(network string, addr netip.Addr) (ss []*stack.Stack, at netip.Addr, why string) {
	switch {
	case !e.accelerates():
		return nil, addr, e.notice()
	case addr.IsValid() && !addr.IsUnspecified():
		if addr.Zone() != "" {
			return nil, addr, "the address has a zone"
		}
		link, ok := e.net.Local(addr)
		if !ok {
			return nil, addr, "the address is not ours"
		}
		s, why := e.stackOf(link)
		if s == nil {
			return nil, addr, why
		}
		return []*stack.Stack{s}, addr, ""
	}
	// net listens on both families also when asked for 0.0.0.0, unless the
	// network names one.
	switch network[len(network)-1] {
	case '4':
		at = netip.IPv4Unspecified()
	case '6':
		at = netip.IPv6Unspecified()
	}
	if ss = e.stacks(); len(ss) == 0 {
		return nil, at, e.whyNone()
	}
	return ss, at, ""
}

// whyNone is why no interface is accelerated.
func (e *Engine) whyNone() string {
	for _, i := range e.ifs {
		if i.err != nil {
			return fmt.Sprintf("%s: %v", i.name, i.err)
		}
		if i.stack != nil && i.stack.Err() != nil {
			return fmt.Sprintf("%s: %v", i.name, i.stack.Err())
		}
	}
	return noInterface
}

const noInterface = "no interface is configured (ONLOAD_INTERFACES)"

// notice says once that no interface is configured, and returns why nothing
// is accelerated.
func (e *Engine) notice() string {
	if e.none == noInterface {
		e.noticed.Do(func() {
			e.log.Warn("nothing is accelerated: no interface is configured; set ONLOAD_INTERFACES=auto or to names, or Config.Interfaces")
		})
	}
	return e.none
}

// tcpConfig is what new connections start with. net turns Nagle's algorithm
// off.
func (e *Engine) tcpConfig(keepAlive time.Duration, kc KeepAliveConfig) *tcp.Config {
	c := e.stackTCP()
	c.NoDelay = true
	if !kc.Enable && keepAlive >= 0 {
		kc = KeepAliveConfig{Enable: true, Idle: keepAlive}
	}
	if kc.Enable {
		c.KeepAlive = mergeKeepAlive(tcp.KeepAlive{}, kc)
	}
	return &c
}

func (e *Engine) stackTCP() tcp.Config {
	return tcp.Config{RcvBuf: e.cfg.RcvBuf, SndBuf: e.cfg.SndBuf, Congestion: e.cfg.Congestion, UserTimeout: e.cfg.UserTimeout, MTUProbing: e.cfg.MTUProbing, ECN: e.cfg.ECN}
}

// Dial is Dialer.Dial of a Dialer without options.
func (e *Engine) Dial(network, address string) (Conn, error) {
	return (&Dialer{Engine: e}).Dial(network, address)
}

// DialContext is Dialer.DialContext of a Dialer without options. It fits
// http.Transport.
func (e *Engine) DialContext(ctx context.Context, network, address string) (Conn, error) {
	return (&Dialer{Engine: e}).DialContext(ctx, network, address)
}

// DialTimeout is Dial with a timeout.
func (e *Engine) DialTimeout(network, address string, timeout time.Duration) (Conn, error) {
	return (&Dialer{Engine: e, Timeout: timeout}).Dial(network, address)
}

// DialTCP connects to raddr, from laddr unless that is nil.
func (e *Engine) DialTCP(network string, laddr, raddr *TCPAddr) (*TCPConn, error) {
	return (&Dialer{Engine: e}).dialTCPAddr(context.Background(), bare, network, laddr, raddr)
}

// DialUDP opens a socket connected to raddr, at laddr unless that is nil.
func (e *Engine) DialUDP(network string, laddr, raddr *UDPAddr) (*UDPConn, error) {
	return (&Dialer{Engine: e}).dialUDPAddr(context.Background(), bare, network, laddr, raddr)
}

// Listen listens as the package's Listen does.
func (e *Engine) Listen(network, address string) (Listener, error) {
	return (&ListenConfig{Engine: e}).Listen(context.Background(), network, address)
}

// ListenPacket opens a socket as the package's ListenPacket does.
func (e *Engine) ListenPacket(network, address string) (PacketConn, error) {
	return (&ListenConfig{Engine: e}).ListenPacket(context.Background(), network, address)
}

// ListenTCP listens on laddr.
func (e *Engine) ListenTCP(network string, laddr *TCPAddr) (*TCPListener, error) {
	return (&ListenConfig{Engine: e}).listenTCPAddr(network, laddr)
}

// ListenUDP opens a socket bound to laddr.
func (e *Engine) ListenUDP(network string, laddr *UDPAddr) (*UDPConn, error) {
	return (&ListenConfig{Engine: e}).listenUDPAddr(network, laddr)
}
