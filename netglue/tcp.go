//go:build onload && linux

package netglue

import (
	"context"
	"internal/onload"
	"io"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/engine"
	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/tcp"
)

// tcpConn is a connection of a stack.
type tcpConn struct {
	none
	s       *stack.TCPConn
	broken  engine.Broken
	changed atomic.Bool // options may differ from those of config
	shadow  atomic.Pointer[engine.TCPShadow]
	// Sizes of buffers in bytes that the shadow does not show yet; nil: none.
	rcvBuf, sndBuf atomic.Pointer[int]
}

// keepAlive is net's default, but for Enable, which net sets.
var keepAlive = tcp.KeepAlive{Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 9}

// config is that of new connections. net sets the same options afterwards, which then
// costs nothing.
func config(e *engine.Engine, o *engine.Options) *tcp.Config {
	c := e.TCP()
	c.NoDelay, c.KeepAlive = true, keepAlive
	o.Apply(&c, false)
	return &c
}

func dialTCP(ctx context.Context, e *engine.Engine, w *engine.Way, local, remote netip.AddrPort, o *engine.Options) (onload.Socket, error) {
	s, why, err := e.DialTCP(ctx, w, local, remote, config(e, o), o)
	if err != nil || why != "" {
		return nil, err
	}
	return &tcpConn{s: s}, nil
}

func (c *tcpConn) Read(p []byte) (int, error) {
	n, err := c.s.Read(p)
	if err != nil && err != io.EOF {
		err = c.broken.TellOnce(err, io.EOF)
	}
	return n, err
}

func (c *tcpConn) Write(p []byte) (int, error) {
	n, err := c.s.Write(p)
	if err != nil {
		err = c.broken.TellOnce(err, syscall.EPIPE)
	}
	return n, err
}

// Writev writes short buffers together, so that they share packets.
func (c *tcpConn) Writev(v [][]byte) (int64, error) { return engine.WriteStream(c, v) }

// Leave gives the kernel the connection, which goes on there.
func (c *tcpConn) Leave(why string) (fd int, err error) {
	if err := engine.HandOverTCP(c.s, why, wrapTCP); err != nil {
		return -1, err
	}
	m := engine.MovedTCP(c.s)
	engine.ForgetTCP(c.s)
	if s := c.shadow.Load(); s != nil {
		_ = s.Close()
	}
	return m.Kernel.(int), nil
}

// wrapTCP implements engine.Wrap.
func wrapTCP(fd int) (any, error) {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	return own, err
}

func (c *tcpConn) CloseRead() error  { return c.s.CloseRead() }
func (c *tcpConn) CloseWrite() error { return c.s.CloseWrite() }
func (c *tcpConn) Close() error {
	err := c.s.Close()
	if s := c.shadow.Load(); s != nil && err == nil {
		_ = s.Close()
	}
	return err
}
func (c *tcpConn) SetReadDeadline(t time.Time) error  { return c.s.SetReadDeadline(t) }
func (c *tcpConn) SetWriteDeadline(t time.Time) error { return c.s.SetWriteDeadline(t) }
func (c *tcpConn) SetLinger(sec int) error            { return c.s.SetLinger(sec) }
func (c *tcpConn) LocalAddr() netip.AddrPort          { return c.s.LocalAddr() }
func (c *tcpConn) RemoteAddr() netip.AddrPort         { return c.s.RemoteAddr() }

// tcpListener listens on the stacks, with a kernel socket on the same port.
type tcpListener struct {
	none
	l       *engine.Listener
	unshare func()
}

func listenTCP(e *engine.Engine, sh *engine.Shards, port uint16, o *engine.Options, unshare func()) (onload.Socket, error) {
	l, err := e.Listen(sh, port, true, config(e, o), o)
	if err != nil {
		unshare()
		// The kernel shares it with another socket of ours, or a broker refuses it.
		if err == syscall.EADDRINUSE || e.Refused(err) != "" {
			return nil, nil
		}
		return nil, err
	}
	return &tcpListener{l: l, unshare: unshare}, nil
}

func (l *tcpListener) Accept() (onload.Socket, any, error) {
	s, injected, err := l.l.Accept()
	if s == nil {
		return nil, injected, err
	}
	return &tcpConn{s: s}, nil, nil
}

func (l *tcpListener) Inject(x onload.Closer) bool       { return l.l.Inject(x) }
func (l *tcpListener) Finish()                           { l.l.Finish() }
func (l *tcpListener) Busy() bool                        { return l.l.Busy() }
func (l *tcpListener) Close() error                      { return l.l.Close() }
func (l *tcpListener) SetReadDeadline(t time.Time) error { return l.l.SetDeadline(t) }
func (l *tcpListener) SetWriteDeadline(time.Time) error  { return nil }
func (l *tcpListener) LocalAddr() netip.AddrPort         { return l.l.Addr() }

func (l *tcpListener) Closed() {
	l.unshare()
	l.l.HoldPort()
}
