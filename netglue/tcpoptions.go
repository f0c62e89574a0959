//go:build onload && linux

package netglue

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/engine"
	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/tcp"
)

// SetsockoptInt sets the options for which net has methods.
func (c *tcpConn) SetsockoptInt(level, name, v int) error {
	if level == unix.SOL_SOCKET {
		switch name {
		case unix.SO_RCVBUF:
			c.rcvBuf.Store(&v)
			return c.s.SetReadBuffer(v)
		case unix.SO_SNDBUF:
			c.sndBuf.Store(&v)
			return c.s.SetWriteBuffer(v)
		case unix.SO_KEEPALIVE:
			return c.change(func(k *tcp.KeepAlive) { k.Enable = v != 0 })
		}
		return syscall.ENOPROTOOPT
	}
	if level == unix.IPPROTO_TCP && c.isSo(name, v) {
		if c.s.Closed() {
			return stack.ErrClosed
		}
		return nil
	}
	c.changed.Store(true)
	switch {
	case level == unix.IPPROTO_TCP && name == unix.TCP_NODELAY:
		return c.s.SetNoDelay(v != 0)
	case level == unix.IPPROTO_TCP && name == unix.TCP_KEEPIDLE:
		return c.changeTime(v, func(k *tcp.KeepAlive) *time.Duration { return &k.Idle })
	case level == unix.IPPROTO_TCP && name == unix.TCP_KEEPINTVL:
		return c.changeTime(v, func(k *tcp.KeepAlive) *time.Duration { return &k.Interval })
	case level == unix.IPPROTO_TCP && name == unix.TCP_KEEPCNT:
		if v < 1 || v > 127 { // MAX_TCP_KEEPCNT
			return syscall.EINVAL
		}
		return c.change(func(k *tcp.KeepAlive) { k.Count = v })
	}
	return syscall.ENOPROTOOPT
}

// isSo reports whether an option of TCP has the value v already, as config made it.
// net sets four of them on each connection; asking the connection takes its lock.
func (c *tcpConn) isSo(name, v int) bool {
	if c.changed.Load() {
		return false
	}
	switch name {
	case unix.TCP_NODELAY:
		return v == 1
	case unix.TCP_KEEPIDLE:
		return time.Duration(v)*time.Second == keepAlive.Idle
	case unix.TCP_KEEPINTVL:
		return time.Duration(v)*time.Second == keepAlive.Interval
	case unix.TCP_KEEPCNT:
		return v == keepAlive.Count
	}
	return false
}

// changeTime sets a time of keepalive, in seconds.
func (c *tcpConn) changeTime(sec int, field func(*tcp.KeepAlive) *time.Duration) error {
	if sec < 1 || sec > 32767 { // MAX_TCP_KEEPIDLE
		return syscall.EINVAL
	}
	return c.change(func(k *tcp.KeepAlive) { *field(k) = time.Duration(sec) * time.Second })
}

func (c *tcpConn) change(set func(*tcp.KeepAlive)) error {
	ka, err := c.s.KeepAlive()
	if err != nil {
		return err
	}
	set(&ka)
	return c.s.SetKeepAlive(ka)
}

// Control calls f with a kernel socket that is never connected: it finds there what
// the connection has, and what it sets is followed.
func (c *tcpConn) Control(f func(fd uintptr)) error {
	s, err := c.shadowSocket()
	if err != nil {
		return err
	}
	c.changed.Store(true)
	return s.Control(engine.AskedBuffers{Receive: c.rcvBuf.Swap(nil), Send: c.sndBuf.Swap(nil)}, f)
}

// shadowSocket returns the kernel socket, which the first call makes.
func (c *tcpConn) shadowSocket() (*engine.TCPShadow, error) {
	if c.s.Closed() {
		return nil, stack.ErrClosed
	}
	if s := c.shadow.Load(); s != nil {
		return s, nil
	}
	s, err := engine.NewTCPShadow(c.s, !c.s.RemoteAddr().Addr().Is4())
	if err != nil {
		return nil, err
	}
	if !c.shadow.CompareAndSwap(nil, s) {
		_ = s.Close()
	}
	s = c.shadow.Load()
	if c.s.Closed() { // meanwhile, so perhaps without the shadow
		_ = s.Close()
	}
	return s, nil
}

func (c *tcpConn) raw() engine.RawTCP { return engine.RawTCP{Conn: c.s, Broken: &c.broken} }

func (c *tcpConn) RawRead(f func(fd uintptr) bool) error  { return c.raw().Read(f) }
func (c *tcpConn) RawWrite(f func(fd uintptr) bool) error { return c.raw().Write(f) }
