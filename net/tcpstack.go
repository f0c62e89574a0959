package onload

import (
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/onload-go/onload/internal/engine"
	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/tcp"
)

// stackTCP is a connection of a stack.
type stackTCP struct {
	conn   TCPConn // first: what its user has
	via    tcpCarrier
	s      *stack.TCPConn
	ends   atomic.Pointer[tcpEnds] // made on first use
	broken engine.Broken
	family byte // of the network that the caller named: '4', '6', 0 for tcp
	wide   bool // addresses as on an IPv6 socket
}

// tcpEnds is what few connections are asked for.
type tcpEnds struct {
	local, remote *net.TCPAddr
	shadow        atomic.Pointer[engine.TCPShadow] // for the program's options
	// Sizes of buffers in bytes that the shadow does not show yet; nil: none.
	rcvBuf, sndBuf atomic.Pointer[int]
}

// acceleratedTCP returns a connection of a stack; network is what its caller named.
func acceleratedTCP(s *stack.TCPConn, network string, wide bool) *TCPConn {
	x := &stackTCP{s: s, family: familyByte(network), wide: wide} // one allocation
	x.via = x
	x.conn.carrier.Store(&x.via)
	runtime.AddCleanup(&x.conn, forgotten, s)
	return &x.conn
}

// forgotten closes a connection that the program has lost without closing it, as net
// does. The methods of stackTCP use their receiver after they have waited, for errors:
// so nothing is lost while a goroutine waits.
func forgotten(s *stack.TCPConn) {
	_ = s.Close()
	engine.ForgetTCP(s)
}

func familyByte(network string) byte {
	if len(network) == len("tcp4") {
		return network[len("tcp")]
	}
	return 0
}

func (c *stackTCP) network() string {
	switch c.family {
	case '4':
		return "tcp4"
	case '6':
		return "tcp6"
	}
	return "tcp"
}

func (c *stackTCP) path() Path {
	if c.s.Closed() {
		if k := c.next(net.ErrClosed); k != nil {
			return k.path()
		}
	}
	return Path(engine.PathBy(c.s.Stack(), c.s.Link()))
}

// opError is an error as net words it; call is the system call that net would have
// made.
func (c *stackTCP) opError(op, call string, err error) error {
	if err == nil {
		return nil
	}
	return &net.OpError{Op: op, Net: c.network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: cause(call, err)}
}

// copyError is the error of ReadFrom or WriteTo: this connection's as Read or Write
// gave it, or the other side's, which stays as it is.
func (c *stackTCP) copyError(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: c.network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// setError is opError for the methods where net puts the local address
// elsewhere.
func (c *stackTCP) setError(call string, err error) error {
	if err == nil {
		return nil
	}
	return &net.OpError{Op: "set", Net: c.network(), Addr: c.LocalAddr(), Err: cause(call, err)}
}

// setting is the error of what the stack has set by err, or of the next carrier, which
// sets it where the connection was handed over.
func (c *stackTCP) setting(call string, err error, next func(tcpCarrier) error) error {
	if k := c.next(err); k != nil {
		return next(k)
	}
	return c.setError(call, err)
}

// option is setting for options.
func (c *stackTCP) option(err error, next func(tcpCarrier) error) error {
	if k := c.next(err); k != nil {
		return next(k)
	}
	return c.optionError(err)
}

// optionError is opError for options.
func (c *stackTCP) optionError(err error) error { return c.opError("set", "setsockopt", err) }

func (c *stackTCP) Read(b []byte) (int, error) {
	n, err := c.s.Read(b)
	if err != nil && err != io.EOF {
		return c.readOn(b, err)
	}
	return n, err
}

func (c *stackTCP) readError(err error) error {
	if err = c.broken.TellOnce(err, io.EOF); err == io.EOF {
		return err
	}
	return c.opError("read", "read", err)
}

func (c *stackTCP) Write(b []byte) (int, error) {
	n, err := c.s.Write(b)
	if err != nil {
		return c.writeOn(b, n, err)
	}
	return n, err
}

func (c *stackTCP) writeError(err error) error {
	return c.opError("write", "write", c.broken.TellOnce(err, syscall.EPIPE))
}

func (c *stackTCP) Close() error {
	err := c.s.Close()
	if k := c.next(err); k != nil {
		return k.Close()
	}
	if ends := c.ends.Load(); ends != nil && err == nil {
		closeShadow(ends)
	}
	return c.opError("close", "close", err)
}

func (c *stackTCP) CloseRead() error {
	err := c.s.CloseRead()
	if k := c.next(err); k != nil {
		return k.CloseRead()
	}
	return c.opError("close", "shutdown", err)
}

func (c *stackTCP) CloseWrite() error {
	err := c.s.CloseWrite()
	if k := c.next(err); k != nil {
		return k.CloseWrite()
	}
	return c.opError("close", "shutdown", err)
}

// addrs returns the addresses, which the first call makes.
func (c *stackTCP) addrs() *tcpEnds {
	if have := c.ends.Load(); have != nil {
		return have
	}
	c.ends.CompareAndSwap(nil, &tcpEnds{local: tcpAddr(c.s.LocalAddr(), c.wide), remote: tcpAddr(c.s.RemoteAddr(), c.wide)})
	return c.ends.Load()
}

func (c *stackTCP) LocalAddr() net.Addr  { return c.addrs().local }
func (c *stackTCP) RemoteAddr() net.Addr { return c.addrs().remote }

func (c *stackTCP) SetDeadline(t time.Time) error {
	return c.setting("set", c.deadlineSet(c.s.SetDeadline(t)), func(k tcpCarrier) error { return k.SetDeadline(t) })
}

// deadlineSet is err, or that of a connection which was handed over while its deadline
// was set, and perhaps without it.
func (c *stackTCP) deadlineSet(err error) error {
	if err == nil && c.s.Closed() {
		return net.ErrClosed
	}
	return err
}

func (c *stackTCP) SetReadDeadline(t time.Time) error {
	return c.setting("set", c.deadlineSet(c.s.SetReadDeadline(t)), func(k tcpCarrier) error { return k.SetReadDeadline(t) })
}

func (c *stackTCP) SetWriteDeadline(t time.Time) error {
	return c.setting("set", c.deadlineSet(c.s.SetWriteDeadline(t)), func(k tcpCarrier) error { return k.SetWriteDeadline(t) })
}

func (c *stackTCP) SetReadBuffer(bytes int) error {
	c.addrs().rcvBuf.Store(&bytes)
	return c.setting("setsockopt", c.s.SetReadBuffer(bytes), func(k tcpCarrier) error { return k.SetReadBuffer(bytes) })
}

func (c *stackTCP) SetWriteBuffer(bytes int) error {
	c.addrs().sndBuf.Store(&bytes)
	return c.setting("setsockopt", c.s.SetWriteBuffer(bytes), func(k tcpCarrier) error { return k.SetWriteBuffer(bytes) })
}

func (c *stackTCP) SetLinger(sec int) error {
	return c.option(c.s.SetLinger(sec), func(k tcpCarrier) error { return k.SetLinger(sec) })
}

func (c *stackTCP) SetNoDelay(noDelay bool) error {
	return c.option(c.s.SetNoDelay(noDelay), func(k tcpCarrier) error { return k.SetNoDelay(noDelay) })
}

func (c *stackTCP) SetMaxPacingRate(bytesPerSecond uint64) error {
	return c.option(c.s.SetMaxPacingRate(bytesPerSecond), func(k tcpCarrier) error { return k.SetMaxPacingRate(bytesPerSecond) })
}

func (c *stackTCP) SetUserTimeout(d time.Duration) error {
	if err := engine.CheckTimeout(d); err != nil {
		return c.optionError(syscall.EINVAL)
	}
	return c.option(c.s.SetUserTimeout(d), func(k tcpCarrier) error { return k.SetUserTimeout(d) })
}

func (c *stackTCP) SetKeepAlive(keepalive bool) error {
	err := c.setKeepAlive(func(ka *tcp.KeepAlive) { ka.Enable = keepalive })
	return c.option(err, func(k tcpCarrier) error { return k.SetKeepAlive(keepalive) })
}

func (c *stackTCP) SetKeepAlivePeriod(d time.Duration) error {
	if d < 0 {
		return nil // net leaves the period alone, also on a closed connection
	}
	err := c.setKeepAlive(func(ka *tcp.KeepAlive) { ka.Idle = mergeDuration(ka.Idle, d, keepAliveIdle) })
	return c.option(err, func(k tcpCarrier) error { return k.SetKeepAlivePeriod(d) })
}

func (c *stackTCP) SetKeepAliveConfig(config net.KeepAliveConfig) error {
	err := c.setKeepAlive(func(ka *tcp.KeepAlive) { *ka = mergeKeepAlive(*ka, config) })
	return c.option(err, func(k tcpCarrier) error { return k.SetKeepAliveConfig(config) })
}

// setKeepAlive returns the stack's own error.
func (c *stackTCP) setKeepAlive(change func(*tcp.KeepAlive)) error {
	ka, err := c.s.KeepAlive()
	if err != nil {
		return err
	}
	change(&ka)
	if err := checkKeepAlive(ka); err != nil {
		return err
	}
	return c.s.SetKeepAlive(ka)
}

func (c *stackTCP) Info() (TCPInfo, error) {
	i, err := c.s.Info()
	if k := c.next(err); k != nil {
		return k.Info()
	}
	return TCPInfo(i), c.opError("get", "getsockopt", err)
}

func (c *stackTCP) SetCongestionControl(name string) error {
	err := c.s.SetCongestion(name)
	if k := c.next(err); k != nil {
		return k.SetCongestionControl(name)
	}
	return c.optionError(congestionError(err, name, "there are "+strings.Join(tcp.CongestionNames(), ", ")))
}

// congestionError explains why a congestion control cannot be had.
func congestionError(err error, name, have string) error {
	switch {
	case errors.Is(err, syscall.ENOENT):
		return fmt.Errorf("congestion control %q: %w; %s", name, err, have)
	case errors.Is(err, syscall.EPERM):
		return fmt.Errorf("congestion control %q: %w; net.ipv4.tcp_allowed_congestion_control does not have it", name, err)
	}
	return err
}

// MultipathTCP is never used.
func (c *stackTCP) MultipathTCP() (bool, error) { return false, nil }

// SyscallConn returns a RawConn that asks who carries the connection at each call.
func (c *stackTCP) SyscallConn() (syscall.RawConn, error) { return rawConn{c}, nil }
