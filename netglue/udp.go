//go:build onload && linux

package netglue

import (
	"context"
	"internal/onload"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/engine"
	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/udp"
)

// udpSocket is what connected and bound sockets have in common.
type udpSocket struct {
	none
	e    *engine.Engine
	s    *stack.UDPConn // where reads wait
	six  bool           // control messages as on an IPv6 socket
	recv atomic.Uint32  // engine.Recv
}

func (c *udpSocket) Read(p []byte) (int, error) {
	if len(p) == 0 && !c.s.Closed() {
		return 0, nil // as poll.FD, whose ReadFrom waits
	}
	n, _, _, _, err := c.s.ReadFrom(p)
	return n, err
}

func (c *udpSocket) ReadMsg(p, oob []byte) (n, oobn, flags int, from netip.AddrPort, err error) {
	recv := engine.Recv(c.recv.Load())
	if oob == nil || recv == 0 {
		n, full, from, _, err := c.s.ReadFrom(p)
		return n, 0, truncated(n, full), from, err
	}
	var info udp.Info
	n, full, err := c.s.ReadInfo(p, &info)
	if err != nil {
		return n, 0, 0, from, err
	}
	oobn, flags = engine.Describe(c.s, oob, recv, c.six, &info)
	return n, oobn, flags | truncated(n, full), info.Src, nil
}

func truncated(n, full int) (flags int) {
	if full > n {
		return syscall.MSG_TRUNC
	}
	return 0
}

// send sends a datagram by s. kernel: only the kernel follows its control messages.
func (c *udpSocket) send(s *stack.UDPConn, p, oob []byte, to netip.AddrPort) (n int, kernel bool, err error) {
	if len(oob) == 0 {
		n, err = s.WriteTo(p, to)
		return n, false, err
	}
	m := stack.Message{Dst: to}
	if err := c.e.Command(&m, oob, c.six); err != nil {
		return 0, err == engine.ErrOnlyKernel, err
	}
	n, err = s.WriteMsg(p, &m)
	return n, false, err
}

func (c *udpSocket) SetReadDeadline(t time.Time) error { return c.s.SetReadDeadline(t) }

// udpConn is a connected socket of a stack.
type udpConn struct {
	udpSocket
	mu      sync.Mutex
	shadow  *os.File // a kernel socket for the program's options; nil: nobody has asked
	buffers engine.Buffers
}

func dialUDP(ctx context.Context, e *engine.Engine, w *engine.Way, local, remote netip.AddrPort, o *engine.Options) (onload.Socket, error) {
	defer o.CloseSocket() // unless the connection takes it
	s, why, err := e.DialUDP(ctx, w, local, remote, o)
	if err != nil || why != "" {
		return nil, err
	}
	c := &udpConn{udpSocket: udpSocket{e: e, s: s, six: !s.RemoteAddr().Addr().Is4()}, shadow: o.TakeSocket()}
	c.recv.Store(uint32(o.Recv))
	return c, nil
}

func (c *udpConn) Write(p []byte) (int, error) { return c.s.WriteTo(p, netip.AddrPort{}) }

// Writev sends one datagram.
func (c *udpConn) Writev(v [][]byte) (int64, error) { return engine.WriteDatagram(c, v) }

func (c *udpConn) WriteMsg(p, oob []byte, _ netip.AddrPort) (int, bool, error) {
	return c.send(c.s, p, oob, netip.AddrPort{})
}

func (c *udpConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.shadow != nil {
		_ = c.shadow.Close()
	}
	return c.s.Close()
}

func (c *udpConn) SetWriteDeadline(t time.Time) error { return c.s.SetWriteDeadline(t) }
func (c *udpConn) LocalAddr() netip.AddrPort          { return c.s.LocalAddr() }
func (c *udpConn) RemoteAddr() netip.AddrPort         { return c.s.RemoteAddr() }

func (c *udpConn) SetsockoptInt(level, name, v int) error {
	if level != unix.SOL_SOCKET || name != unix.SO_RCVBUF && name != unix.SO_SNDBUF {
		return nil
	}
	c.mu.Lock()
	c.buffers.Set(name, v)
	if c.shadow != nil {
		var one engine.Buffers
		one.Set(name, v)
		one.Follow(c.shadow)
	}
	c.mu.Unlock()
	if name == unix.SO_RCVBUF {
		return c.s.SetReadBuffer(c.e.UDPBuffer(name, v))
	}
	return c.s.SetWriteBuffer(c.e.UDPBuffer(name, v))
}

// shadowRaw is the RawConn of the kernel socket, which is made at the first call.
func (c *udpConn) shadowRaw() (_ syscall.RawConn, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.s.Closed() {
		return nil, stack.ErrClosed
	}
	if c.shadow == nil {
		if c.shadow, err = c.e.Shadow(c.six, c.buffers); err != nil {
			return nil, err
		}
	}
	return c.shadow.SyscallConn()
}

// Control calls f with a kernel socket that is not connected.
func (c *udpConn) Control(f func(fd uintptr)) error {
	raw, err := c.shadowRaw()
	if err != nil {
		return err
	}
	if err := raw.Control(f); err != nil {
		return err
	}
	o, err := c.e.OptionsOf(raw)
	switch {
	case err != nil:
		return err
	case o.Kernel != "":
		return onload.Leaving(o.Kernel)
	}
	c.recv.Store(uint32(o.Recv))
	c.e.FollowUDP(c.s, &o)
	return nil
}

// Leave gives the kernel socket the addresses of ours, and what nobody has read.
func (c *udpConn) Leave(string) (fd int, err error) {
	if !c.e.Twin(c.s.LocalAddr().Addr()) {
		return -1, errNoDescriptor
	}
	raw, err := c.shadowRaw()
	if err != nil {
		return -1, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.shadow.Close()
	if err := c.e.MoveUDP(c.s, c.shadow); err != nil {
		return -1, err
	}
	if cerr := raw.Control(func(own uintptr) { fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) }); cerr != nil {
		return -1, cerr
	}
	return fd, err
}

// udpBound is a socket bound on the stacks, with a kernel socket on the same port.
type udpBound struct {
	udpSocket
	twin    syscall.RawConn
	on      *engine.Socket
	local   netip.AddrPort
	unshare func()
}

func bindUDP(e *engine.Engine, twin syscall.Conn, sh *engine.Shards, local netip.AddrPort, o *engine.Options, unshare func()) (onload.Socket, error) {
	raw, err := twin.SyscallConn()
	if err != nil {
		return nil, err
	}
	on, err := e.Bind(sh, local.Port(), true, o)
	if err == syscall.EADDRINUSE {
		o.GroupsOnly = true
		on, err = e.Bind(sh, local.Port(), true, o)
	}
	if err != nil {
		unshare()
		if e.Refused(err) != "" {
			return nil, nil
		}
		return nil, err
	}
	c := &udpBound{udpSocket: udpSocket{e: e, s: on.Receiver(), six: local.Addr().Is6()}, twin: raw, on: on, local: local, unshare: unshare}
	c.recv.Store(uint32(o.Recv))
	if o.GroupsOnly || o.Hooked {
		if err := on.Hear(raw); err != nil {
			_ = on.Close()
			unshare()
			return nil, err
		}
	}
	return c, nil
}

func (c *udpBound) Write([]byte) (int, error)      { return 0, syscall.EDESTADDRREQ }
func (c *udpBound) Writev([][]byte) (int64, error) { return 0, syscall.EDESTADDRREQ }

func (c *udpBound) WriteMsg(p, oob []byte, to netip.AddrPort) (int, bool, error) {
	s, err := c.on.To(to.Addr(), int(to.Port()))
	if err != nil || s == nil {
		return 0, err == nil, err
	}
	return c.send(s, p, oob, to)
}

// Control follows what the program has set on the kernel's socket.
func (c *udpBound) Control(func(fd uintptr)) error {
	o, err := c.e.OptionsOf(c.twin)
	switch {
	case err != nil:
		return err
	case o.Kernel != "":
		return onload.Leaving(o.Kernel)
	}
	c.recv.Store(uint32(o.Recv))
	c.on.Follow(&o)
	if err := c.on.Hear(c.twin); err != nil && !c.s.Closed() {
		return err
	}
	return nil
}

func (c *udpBound) InjectMsg(p, oob []byte, from netip.AddrPort) {
	info := udp.Info{Src: from, Dst: c.local}
	engine.Learn(&info, oob)
	c.s.Inject(p, &info) // dropped where the readers are behind, as the kernel does
}

func (c *udpBound) Close() error                       { return c.on.Close() }
func (c *udpBound) Closed()                            { c.unshare() }
func (c *udpBound) SetWriteDeadline(t time.Time) error { return c.on.SetWriteDeadline(t) }
func (c *udpBound) LocalAddr() netip.AddrPort          { return c.on.LocalAddr() }

// Leave leaves the port to the kernel's socket.
func (c *udpBound) Leave(string) (int, error) {
	c.e.LeaveUDP(c.s, c.on)
	c.unshare()
	return -1, nil
}

func (c *udpBound) SetsockoptInt(level, name, v int) error {
	if level != unix.SOL_SOCKET {
		return nil
	}
	switch name {
	case unix.SO_RCVBUF:
		return c.s.SetReadBuffer(c.e.UDPBuffer(name, v))
	case unix.SO_SNDBUF:
		return c.on.SetWriteBuffer(c.e.UDPBuffer(name, v))
	}
	return nil
}
