package onload

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/engine"
	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/tcp"
)

// TCPConn is a TCP connection, accelerated or the kernel's: see PathOf. It has
// the methods of net.TCPConn, with their errors; all of them may be called at
// the same time.
type TCPConn struct {
	s      *stack.TCPConn          // accelerated, or nil
	k      *kernelTCP              // the kernel's, or nil
	ends   atomic.Pointer[tcpEnds] // made on first use
	broken atomic.Bool             // what broke it has been told
	family byte                    // of the network that the caller named: '4', '6', 0 for tcp
	wide   bool                    // addresses as on an IPv6 socket
}

type kernelTCP struct {
	*net.TCPConn
	why string // not accelerated
}

type tcpEnds struct{ local, remote *net.TCPAddr }

// acceleratedTCP is a connection of a stack; network is what its caller named.
func acceleratedTCP(s *stack.TCPConn, network string, wide bool) *TCPConn {
	return &TCPConn{s: s, family: familyByte(network), wide: wide}
}

// kernelTCPConn is a connection of the kernel, for which why tells the reason.
func kernelTCPConn(k *net.TCPConn, network, why string) *TCPConn {
	return &TCPConn{k: &kernelTCP{k, why}, family: familyByte(network)}
}

func familyByte(network string) byte {
	if len(network) == len("tcp4") {
		return network[len("tcp")]
	}
	return 0
}

func (c *TCPConn) network() string {
	switch c.family {
	case '4':
		return "tcp4"
	case '6':
		return "tcp6"
	}
	return "tcp"
}

var (
	_ net.Conn      = (*TCPConn)(nil)
	_ io.ReaderFrom = (*TCPConn)(nil)
	_ io.WriterTo   = (*TCPConn)(nil)
	_ syscall.Conn  = (*TCPConn)(nil)
)

func (c *TCPConn) ok() bool { return c != nil && (c.s != nil || c.k != nil) }

// opError is an error of an accelerated connection as net words it; call is
// the system call that net would have made.
func (c *TCPConn) opError(op, call string, err error) error {
	if err == nil {
		return nil
	}
	return &net.OpError{Op: op, Net: c.network(), Source: c.local(), Addr: c.remote(), Err: cause(call, err)}
}

// copyError is the error of ReadFrom or WriteTo: this connection's as Read or
// Write gave it, or the other side's, of which nothing is to be made.
func (c *TCPConn) copyError(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	return &net.OpError{Op: op, Net: c.network(), Source: c.local(), Addr: c.remote(), Err: err}
}

// setError is opError for the methods where net puts the local address
// elsewhere.
func (c *TCPConn) setError(call string, err error) error {
	if err == nil {
		return nil
	}
	return &net.OpError{Op: "set", Net: c.network(), Addr: c.local(), Err: cause(call, err)}
}

// Read reads what has arrived, waiting for something. The peer's end of
// sending is io.EOF.
func (c *TCPConn) Read(b []byte) (int, error) {
	if !c.ok() {
		return 0, syscall.EINVAL
	}
	if c.s == nil {
		return c.k.Read(b)
	}
	n, err := c.s.Read(b)
	if err != nil && err != io.EOF {
		err = c.readError(err)
	}
	return n, err
}

func (c *TCPConn) readError(err error) error {
	if err = c.tellOnce(err, io.EOF); err == io.EOF {
		return err
	}
	return c.opError("read", "read", err)
}

// Write writes all of b, or returns how much it has taken and why no more.
func (c *TCPConn) Write(b []byte) (int, error) {
	if !c.ok() {
		return 0, syscall.EINVAL
	}
	if c.s == nil {
		return c.k.Write(b)
	}
	n, err := c.s.Write(b)
	if err != nil {
		err = c.writeError(err)
	}
	return n, err
}

func (c *TCPConn) writeError(err error) error {
	return c.opError("write", "write", c.tellOnce(err, syscall.EPIPE))
}

// tellOnce returns the error that broke the connection to the first who meets
// it, and to all others what comes then: so does the kernel (sk_err).
func (c *TCPConn) tellOnce(err, then error) error {
	if _, ok := err.(syscall.Errno); ok && err != syscall.EPIPE && c.broken.Swap(true) {
		return then
	}
	return err
}

// Close closes the connection. Blocked calls return errors that are
// net.ErrClosed.
func (c *TCPConn) Close() error {
	if !c.ok() {
		return syscall.EINVAL
	}
	if c.s == nil {
		return c.k.Close()
	}
	return c.opError("close", "close", c.s.Close())
}

// CloseRead shuts down the reading side. Most callers should just use Close.
func (c *TCPConn) CloseRead() error {
	if !c.ok() {
		return syscall.EINVAL
	}
	if c.s == nil {
		return c.k.CloseRead()
	}
	return c.opError("close", "shutdown", c.s.CloseRead())
}

// CloseWrite shuts down the writing side: the peer reads io.EOF after all that
// was written. Most callers should just use Close.
func (c *TCPConn) CloseWrite() error {
	if !c.ok() {
		return syscall.EINVAL
	}
	if c.s == nil {
		return c.k.CloseWrite()
	}
	return c.opError("close", "shutdown", c.s.CloseWrite())
}

// addrs returns the addresses, made by the first who asks.
func (c *TCPConn) addrs() *tcpEnds {
	if have := c.ends.Load(); have != nil {
		return have
	}
	c.ends.CompareAndSwap(nil, &tcpEnds{tcpAddr(c.s.LocalAddr(), c.wide), tcpAddr(c.s.RemoteAddr(), c.wide)})
	return c.ends.Load()
}

func (c *TCPConn) local() net.Addr  { return c.addrs().local }
func (c *TCPConn) remote() net.Addr { return c.addrs().remote }

// LocalAddr returns the local address, a *TCPAddr, which all callers share.
func (c *TCPConn) LocalAddr() Addr {
	if !c.ok() {
		return nil
	}
	if c.s == nil {
		return c.k.LocalAddr()
	}
	return c.local()
}

// RemoteAddr returns the peer's address, a *TCPAddr, which all callers share.
func (c *TCPConn) RemoteAddr() Addr {
	if !c.ok() {
		return nil
	}
	if c.s == nil {
		return c.k.RemoteAddr()
	}
	return c.remote()
}

// SetDeadline sets both deadlines. They are absolute; the zero time is none.
func (c *TCPConn) SetDeadline(t time.Time) error {
	if !c.ok() {
		return syscall.EINVAL
	}
	if c.s == nil {
		return c.k.SetDeadline(t)
	}
	return c.setError("set", c.s.SetDeadline(t))
}

// SetReadDeadline sets when Read fails with an error that is
// os.ErrDeadlineExceeded.
func (c *TCPConn) SetReadDeadline(t time.Time) error {
	if !c.ok() {
		return syscall.EINVAL
	}
	if c.s == nil {
		return c.k.SetReadDeadline(t)
	}
	return c.setError("set", c.s.SetReadDeadline(t))
}

// SetWriteDeadline sets when Write fails with an error that is
// os.ErrDeadlineExceeded, having written a part or nothing.
func (c *TCPConn) SetWriteDeadline(t time.Time) error {
	if !c.ok() {
		return syscall.EINVAL
	}
	if c.s == nil {
		return c.k.SetWriteDeadline(t)
	}
	return c.setError("set", c.s.SetWriteDeadline(t))
}

// SetReadBuffer sets the size of the receive buffer in bytes. Until then it
// grows with what the path needs.
func (c *TCPConn) SetReadBuffer(bytes int) error {
	if !c.ok() {
		return syscall.EINVAL
	}
	if c.s == nil {
		return c.k.SetReadBuffer(bytes)
	}
	return c.setError("setsockopt", c.s.SetReadBuffer(bytes))
}

// SetWriteBuffer sets the size of the send buffer in bytes. Until then it
// grows with what the path needs.
func (c *TCPConn) SetWriteBuffer(bytes int) error {
	if !c.ok() {
		return syscall.EINVAL
	}
	if c.s == nil {
		return c.k.SetWriteBuffer(bytes)
	}
	return c.setError("setsockopt", c.s.SetWriteBuffer(bytes))
}

// SetLinger sets what Close does with data that is not yet acknowledged: below
// 0 (the default) it is sent in the background; 0 discards it and resets the
// connection; above 0 Close waits for it, at most so many seconds.
func (c *TCPConn) SetLinger(sec int) error {
	if !c.ok() {
		return syscall.EINVAL
	}
	if c.s == nil {
		return c.k.SetLinger(sec)
	}
	return c.opError("set", "setsockopt", c.s.SetLinger(sec))
}

// SetNoDelay turns Nagle's algorithm off (true, the default) or on.
func (c *TCPConn) SetNoDelay(noDelay bool) error {
	if !c.ok() {
		return syscall.EINVAL
	}
	if c.s == nil {
		return c.k.SetNoDelay(noDelay)
	}
	return c.opError("set", "setsockopt", c.s.SetNoDelay(noDelay))
}

// SetUserTimeout bounds how long what was written may stay unacknowledged, or
// wait for the peer's window, before the connection fails with ETIMEDOUT (RFC
// 5482, TCP_USER_TIMEOUT); milliseconds count. 0 is the system's default. It is
// not in net.
func (c *TCPConn) SetUserTimeout(d time.Duration) error {
	if !c.ok() {
		return syscall.EINVAL
	}
	if err := engine.CheckTimeout(d); err != nil {
		return c.anyError("set", "setsockopt", syscall.EINVAL)
	}
	if c.s != nil {
		return c.opError("set", "setsockopt", c.s.SetUserTimeout(d))
	}
	return c.anyError("set", "setsockopt", c.onSocket(func(fd int) error {
		return syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d/time.Millisecond))
	}))
}

// anyError is opError for both kinds of connection.
func (c *TCPConn) anyError(op, call string, err error) error {
	if err == nil {
		return nil
	}
	return &net.OpError{Op: op, Net: c.network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: cause(call, err)}
}

// SetKeepAlive sets whether keepalive probes are sent.
func (c *TCPConn) SetKeepAlive(keepalive bool) error {
	if !c.ok() {
		return syscall.EINVAL
	}
	if c.s == nil {
		return c.k.SetKeepAlive(keepalive)
	}
	return c.setKeepAlive(func(ka *tcp.KeepAlive) { ka.Enable = keepalive })
}

// SetKeepAlivePeriod sets how long the connection is idle before the first
// probe.
func (c *TCPConn) SetKeepAlivePeriod(d time.Duration) error {
	if !c.ok() {
		return syscall.EINVAL
	}
	if c.s == nil {
		return c.k.SetKeepAlivePeriod(d)
	}
	return c.setKeepAlive(func(ka *tcp.KeepAlive) { ka.Idle = mergeDuration(ka.Idle, d, keepAliveIdle) })
}

// SetKeepAliveConfig sets the keepalive options.
func (c *TCPConn) SetKeepAliveConfig(config KeepAliveConfig) error {
	if !c.ok() {
		return syscall.EINVAL
	}
	if c.s == nil {
		return c.k.SetKeepAliveConfig(config)
	}
	return c.setKeepAlive(func(ka *tcp.KeepAlive) { *ka = mergeKeepAlive(*ka, config) })
}

func (c *TCPConn) setKeepAlive(change func(*tcp.KeepAlive)) error {
	ka, err := c.s.KeepAlive()
	if err == nil {
		change(&ka)
		if err = checkKeepAlive(ka); err == nil {
			err = c.s.SetKeepAlive(ka)
		}
	}
	return c.opError("set", "setsockopt", err)
}

// MultipathTCP reports whether the connection uses Multipath TCP, which an
// accelerated one never does.
func (c *TCPConn) MultipathTCP() (bool, error) {
	if !c.ok() {
		return false, syscall.EINVAL
	}
	if c.s == nil {
		return c.k.MultipathTCP()
	}
	return false, nil
}

// File returns a copy of the underlying file. An accelerated connection has
// none: the error is errors.ErrUnsupported.
func (c *TCPConn) File() (*os.File, error) {
	if !c.ok() {
		return nil, syscall.EINVAL
	}
	if c.s == nil {
		return c.k.File()
	}
	return nil, c.opError("file", "dup", errNoDescriptor)
}

// SyscallConn returns the raw connection. The methods of an accelerated one's
// fail with errors.ErrUnsupported, but for Read while the connection is open
// and nothing has arrived: its function then gets a descriptor on which that
// is what it finds.
func (c *TCPConn) SyscallConn() (syscall.RawConn, error) {
	if !c.ok() {
		return nil, syscall.EINVAL
	}
	if c.s == nil {
		return c.k.SyscallConn()
	}
	return rawConn{c}, nil
}

// rawConn is the RawConn of an accelerated connection.
type rawConn struct{ c *TCPConn }

func (r rawConn) unsupported() error { return r.c.opError("raw", "raw", errNoDescriptor) }

// Control implements syscall.RawConn.
func (r rawConn) Control(func(fd uintptr)) error { return r.unsupported() }

// Write implements syscall.RawConn.
func (r rawConn) Write(func(fd uintptr) bool) error { return r.unsupported() }

// Read lets f look at a descriptor that has nothing to read, if that is true
// of the connection: connection pools ask whether one is still alive so.
func (r rawConn) Read(f func(fd uintptr) bool) error {
	if r.c.s.Readable() {
		return r.unsupported()
	}
	idle, err := idleConn()
	if err != nil {
		return r.unsupported()
	}
	done := false
	if err := idle.Control(func(fd uintptr) { done = f(fd) }); err != nil || !done {
		return r.unsupported()
	}
	return nil
}

// idleConn is a socket on which nothing ever arrives, whose peer is open.
var idleConn = sync.OnceValues(func() (syscall.RawConn, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	files := [2]*os.File{os.NewFile(uintptr(fds[0]), "onload-idle"), os.NewFile(uintptr(fds[1]), "onload-idle")}
	raw, err := files[0].SyscallConn()
	if err != nil {
		return nil, errors.Join(err, files[0].Close(), files[1].Close())
	}
	return idlePair{raw, files}, nil
})

// idlePair keeps both ends open.
type idlePair struct {
	syscall.RawConn
	files [2]*os.File
}
