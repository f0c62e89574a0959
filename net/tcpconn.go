package onload

import (
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// TCPConn is a TCP connection, accelerated or the kernel's: see PathOf. It has the
// methods of net.TCPConn, with their errors. All of them may be called at the same
// time.
type TCPConn struct {
	// carrier may change while the connection lives.
	carrier atomic.Pointer[tcpCarrier]
}

// tcpCarrier carries a TCPConn. There are stackTCP, kernelTCP, and noTCP for the
// zero TCPConn.
type tcpCarrier interface {
	net.Conn
	io.ReaderFrom
	io.WriterTo
	CloseRead() error
	CloseWrite() error
	SetReadBuffer(bytes int) error
	SetWriteBuffer(bytes int) error
	SetLinger(sec int) error
	SetNoDelay(noDelay bool) error
	SetUserTimeout(d time.Duration) error
	SetKeepAlive(keepalive bool) error
	SetKeepAlivePeriod(d time.Duration) error
	SetKeepAliveConfig(config net.KeepAliveConfig) error
	MultipathTCP() (bool, error)
	File() (*os.File, error)
	SyscallConn() (syscall.RawConn, error)
	Info() (TCPInfo, error)
	SetCongestionControl(name string) error
	SetMaxPacingRate(bytesPerSecond uint64) error
	path() Path
}

// via returns the carrier of c.
func (c *TCPConn) via() tcpCarrier {
	if c != nil {
		if v := c.carrier.Load(); v != nil {
			return *v
		}
	}
	return noTCP{}
}

var (
	_ net.Conn      = (*TCPConn)(nil)
	_ io.ReaderFrom = (*TCPConn)(nil)
	_ io.WriterTo   = (*TCPConn)(nil)
	_ syscall.Conn  = (*TCPConn)(nil)
)

// Read reads what has arrived, and waits until something has. The end of the peer's
// sending is io.EOF.
func (c *TCPConn) Read(b []byte) (int, error) { return c.via().Read(b) }

// Write writes all of b. If it fails, it returns how many bytes it has taken.
func (c *TCPConn) Write(b []byte) (int, error) { return c.via().Write(b) }

// ReadFrom implements io.ReaderFrom: it reads from r and sends the bytes. The bytes
// of another accelerated connection or of a regular file do not pass through a
// buffer, not even if an io.LimitedReader or io.SectionReader takes a part of them.
func (c *TCPConn) ReadFrom(r io.Reader) (int64, error) { return c.via().ReadFrom(r) }

// WriteTo implements io.WriterTo: it receives bytes and writes them to w. If w is
// another accelerated connection, its ReadFrom does the work.
func (c *TCPConn) WriteTo(w io.Writer) (int64, error) { return c.via().WriteTo(w) }

// Close closes the connection. Blocked calls return errors that are
// net.ErrClosed.
func (c *TCPConn) Close() error { return c.via().Close() }

// CloseRead shuts down the reading side. Most callers should just use Close.
func (c *TCPConn) CloseRead() error { return c.via().CloseRead() }

// CloseWrite shuts down the writing side: the peer reads io.EOF after all that
// was written. Most callers should just use Close.
func (c *TCPConn) CloseWrite() error { return c.via().CloseWrite() }

// LocalAddr returns the local address, a *TCPAddr, which all callers share.
func (c *TCPConn) LocalAddr() Addr { return c.via().LocalAddr() }

// RemoteAddr returns the peer's address, a *TCPAddr, which all callers share.
func (c *TCPConn) RemoteAddr() Addr { return c.via().RemoteAddr() }

// SetDeadline sets both deadlines. They are absolute; the zero time is none.
func (c *TCPConn) SetDeadline(t time.Time) error { return c.via().SetDeadline(t) }

// SetReadDeadline sets when Read fails with an error that is
// os.ErrDeadlineExceeded.
func (c *TCPConn) SetReadDeadline(t time.Time) error { return c.via().SetReadDeadline(t) }

// SetWriteDeadline sets when Write fails with an error that is
// os.ErrDeadlineExceeded, having written a part or nothing.
func (c *TCPConn) SetWriteDeadline(t time.Time) error { return c.via().SetWriteDeadline(t) }

// SetReadBuffer sets the size of the receive buffer in bytes. Until then it
// grows with what the path needs.
func (c *TCPConn) SetReadBuffer(bytes int) error { return c.via().SetReadBuffer(bytes) }

// SetWriteBuffer sets the size of the send buffer in bytes. Until then it
// grows with what the path needs.
func (c *TCPConn) SetWriteBuffer(bytes int) error { return c.via().SetWriteBuffer(bytes) }

// SetLinger sets what Close does with data that is not yet acknowledged. Below 0
// (the default) it is sent in the background. 0 discards it and resets the
// connection. Above 0 Close waits for it, at most that many seconds.
func (c *TCPConn) SetLinger(sec int) error { return c.via().SetLinger(sec) }

// SetNoDelay turns Nagle's algorithm off (true, the default) or on.
func (c *TCPConn) SetNoDelay(noDelay bool) error { return c.via().SetNoDelay(noDelay) }

// SetUserTimeout bounds how long written data may stay unacknowledged, or wait for
// the peer's window, before the connection fails with ETIMEDOUT (RFC 5482,
// TCP_USER_TIMEOUT). The resolution is a millisecond. 0 is the system's default. It
// is not in net.
func (c *TCPConn) SetUserTimeout(d time.Duration) error { return c.via().SetUserTimeout(d) }

// SetKeepAlive sets whether keepalive probes are sent.
func (c *TCPConn) SetKeepAlive(keepalive bool) error { return c.via().SetKeepAlive(keepalive) }

// SetKeepAlivePeriod sets how long the connection is idle before the first
// probe.
func (c *TCPConn) SetKeepAlivePeriod(d time.Duration) error { return c.via().SetKeepAlivePeriod(d) }

// SetKeepAliveConfig sets the keepalive options.
func (c *TCPConn) SetKeepAliveConfig(config KeepAliveConfig) error {
	return c.via().SetKeepAliveConfig(config)
}

// MultipathTCP reports whether the connection uses Multipath TCP, which an
// accelerated one never does.
func (c *TCPConn) MultipathTCP() (bool, error) { return c.via().MultipathTCP() }

// File returns a copy of the underlying file, for a child process (os/exec's
// ExtraFiles), or to be sent through a Unix socket. An accelerated connection has none
// until then: it is handed over to the kernel, without a packet to the peer, and c goes
// on by the kernel from then on, as do calls that wait; PathOf says so. Closing c does
// not affect the file, and closing the file does not affect c.
//
// To hand a connection over takes CAP_NET_ADMIN (TCP_REPAIR), and CAP_NET_RAW once the
// peer has closed its side. If it fails, c goes on as it was. Behind a NIC that no
// kernel knows, and over a link in memory, the error is errors.ErrUnsupported.
func (c *TCPConn) File() (*os.File, error) { return c.via().File() }

// SyscallConn returns the raw connection. That of an accelerated connection gives
// descriptors which are not the connection's own, for the time of the call:
//
//   - Read and Write give a Unix socket, on which reading, peeking (MSG_PEEK) and
//     writing find what they would find on TCP's: data, the end, ECONNRESET, EAGAIN,
//     EPIPE. What is read and written there is read from and written to the
//     connection. Any other error that ended it is that of Read or Write.
//   - Control gives a TCP socket that is never connected. Options that are set there
//     are followed, by TOS and TTL in each packet from then; what an open
//     accelerated connection has not got is an error that names the option and is
//     errors.ErrUnsupported. TCP_INFO is not the connection's: see Info.
func (c *TCPConn) SyscallConn() (syscall.RawConn, error) { return c.via().SyscallConn() }

// Info returns the state of the connection. If the kernel carries it, it is that of
// getsockopt(TCP_INFO); Limit is then inferred, and never LimitSendBuffer. It is
// not in net.
func (c *TCPConn) Info() (TCPInfo, error) { return c.via().Info() }

// SetCongestionControl chooses the congestion control, "cubic", "newreno" or "bbr",
// as TCP_CONGESTION does. The congestion window stays. If the kernel carries the
// connection, any that the kernel has may be named. The error of an unknown name is
// ENOENT. It is not in net.
func (c *TCPConn) SetCongestionControl(name string) error { return c.via().SetCongestionControl(name) }

// SetMaxPacingRate bounds the rate of sending to that many bytes of payload per
// second, as SO_MAX_PACING_RATE does. It also spreads the packets over time, by the
// congestion window if that is less (as sch_fq). A bound out of reach, such as
// math.MaxInt64, only does the latter. 0 takes the bound away, and on an
// accelerated connection the pacing. It is not in net.
func (c *TCPConn) SetMaxPacingRate(bytesPerSecond uint64) error {
	return c.via().SetMaxPacingRate(bytesPerSecond)
}
