package onload

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/engine"
	"github.com/onload-go/onload/tcp"
)

// Engine is a set of accelerated interfaces, together with the kernel's sockets for
// everything else. Its methods are those of the package with the same names.
// Several engines may live in one process, but an interface belongs to one.
type Engine struct {
	in    *engine.Engine // decides who carries what
	asked atomic.Uint32  // attempts at the name servers of Config.Static
}

// New makes an Engine from c alone. ConfigFromEnv has the settings of the
// environment, which New only checks: unknown or invalid ONLOAD_* variables are an
// error here too.
func New(c Config) (*Engine, error) {
	in, err := engine.New(engine.Config(c))
	if err != nil {
		return nil, err
	}
	return &Engine{in: in}, nil
}

var defaultEngine struct {
	sync.Mutex
	engine *Engine
	err    error
}

// Default returns the engine behind the package-level functions. It is made from
// the ONLOAD_* variables on first use and never closed. If that fails, those
// functions return the error, now and later.
//
// In a program that onload build has made, package net has the accelerated interfaces.
// The default engine has none there, and its sockets are net's, which are accelerated:
// Status, Stats and PathOf do not show it.
func Default() (*Engine, error) {
	d := &defaultEngine
	d.Lock()
	defer d.Unlock()
	if d.engine != nil || d.err != nil {
		return d.engine, d.err
	}
	var in *engine.Engine
	if netCarries() {
		in, d.err = engine.Idle(carriedByNet)
	} else {
		in, d.err = engine.Default()
	}
	if d.err == nil {
		d.engine = &Engine{in: in}
	}
	return d.engine, d.err
}

// orDefault returns e, or Default if that is nil.
func orDefault(e *Engine) (*Engine, error) {
	if e != nil {
		return e, nil
	}
	return Default()
}

// Close resets the accelerated connections, closes the accelerated listeners
// and UDP sockets, the kernel's part of them included, and gives the interfaces
// back to the kernel. Connections that the kernel carries are left alone. Dial,
// Listen and their like then fail with net.ErrClosed.
func (e *Engine) Close() error { return e.in.Close() }

// Guardian says which process resets the Engine's peers if this process dies
// (Config.Guardian), or begins with "none" and says why none does.
func (e *Engine) Guardian() string { return e.in.Guardian() }

// tcpConfig returns the configuration of a new connection, with net's keepalive
// and without Nagle's algorithm, as net has it.
func (e *Engine) tcpConfig(keepAlive time.Duration, kc KeepAliveConfig) *tcp.Config {
	c := e.in.TCP()
	c.NoDelay = true
	if !kc.Enable && keepAlive >= 0 {
		kc = KeepAliveConfig{Enable: true, Idle: keepAlive}
	}
	if kc.Enable {
		c.KeepAlive = mergeKeepAlive(tcp.KeepAlive{}, kc)
	}
	return &c
}

// Tap has the packets of the accelerated interfaces recorded until stop is called, also
// those of open connections, and of interfaces that come meanwhile. Package
// driver/capture has taps that write a file for Wireshark, and calls this. Packets pay
// nothing while there is no tap; there may be several. Tap fails if nothing is
// accelerated.
func (e *Engine) Tap(open driver.OpenTap) (stop func(), err error) { return e.in.Tap(open) }

// family is the IP version that a network such as "tcp4" names.
func family(network string) engine.Family {
	switch network[len(network)-1] {
	case '4':
		return engine.IPv4
	case '6':
		return engine.IPv6
	}
	return engine.AnyFamily
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

// ListenMulticastUDP opens a socket that has joined gaddr, as the package's
// ListenMulticastUDP does.
func (e *Engine) ListenMulticastUDP(network string, ifi *Interface, gaddr *UDPAddr) (*UDPConn, error) {
	return e.listenGroup(network, ifi, gaddr)
}

// ListenUDP opens a socket bound to laddr.
func (e *Engine) ListenUDP(network string, laddr *UDPAddr) (*UDPConn, error) {
	return (&ListenConfig{Engine: e}).listenUDPAddr(network, laddr)
}
