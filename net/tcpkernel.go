package onload

import (
	"io"
	"math"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/engine"
)

// kernelTCP is a connection of the kernel's.
type kernelTCP struct {
	*net.TCPConn
	why     string // not accelerated
	network string // that the caller named
}

// kernelTCPConn returns a connection of the kernel's; why says the reason.
func kernelTCPConn(k *net.TCPConn, network, why string) *TCPConn {
	x := new(struct { // one allocation
		c   TCPConn
		on  kernelTCP
		via tcpCarrier
	})
	x.on = kernelTCP{k, why, network}
	x.via = &x.on
	x.c.carrier.Store(&x.via)
	return &x.c
}

func (c *kernelTCP) path() Path { return Path{Reason: c.why} }

// opError is the error of a method that net.TCPConn does not have, in its words.
func (c *kernelTCP) opError(op, call string, err error) error {
	if err == nil {
		return nil
	}
	return &net.OpError{Op: op, Net: c.network, Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: cause(call, err)}
}

func (c *kernelTCP) SetUserTimeout(d time.Duration) error {
	if err := engine.CheckTimeout(d); err != nil {
		return c.opError("set", "setsockopt", syscall.EINVAL)
	}
	return c.opError("set", "setsockopt", c.onSocket(func(fd int) error {
		return syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d/time.Millisecond))
	}))
}

// Info returns that of getsockopt(TCP_INFO).
func (c *kernelTCP) Info() (i TCPInfo, err error) {
	err = c.onSocket(func(fd int) (err error) { i, err = kernelInfo(fd); return err })
	return i, c.opError("get", "getsockopt", err)
}

func (c *kernelTCP) SetCongestionControl(name string) error {
	err := c.onSocket(func(fd int) error {
		return unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, kernelCongestion(name))
	})
	return c.opError("set", "setsockopt", congestionError(err, name, "the kernel has those in net.ipv4.tcp_available_congestion_control"))
}

func (c *kernelTCP) SetMaxPacingRate(bytesPerSecond uint64) error {
	if bytesPerSecond == 0 {
		bytesPerSecond = math.MaxUint64
	}
	return c.opError("set", "setsockopt", c.onSocket(func(fd int) error {
		return unix.SetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE, bytesPerSecond)
	}))
}

// onSocket calls f with the descriptor of the connection.
func (c *kernelTCP) onSocket(f func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = f(int(fd)) }); err != nil {
		if op, ok := err.(*net.OpError); ok {
			err = op.Err // the caller says which operation it was
		}
		return err
	}
	return failed
}

// ReadFrom shows net the connection behind one of ours, so that it can splice.
func (c *kernelTCP) ReadFrom(r io.Reader) (int64, error) {
	if k := kernelOf(r); k != nil {
		return c.TCPConn.ReadFrom(k.TCPConn)
	}
	if l, ok := r.(*io.LimitedReader); ok {
		if k := kernelOf(l.R); k != nil {
			kl := io.LimitedReader{R: k.TCPConn, N: l.N}
			n, err := c.TCPConn.ReadFrom(&kl)
			l.N = kl.N
			return n, err
		}
	}
	return c.TCPConn.ReadFrom(r)
}

// kernelOf returns the kernel's connection behind r, or nil.
func kernelOf(r io.Reader) *kernelTCP {
	if c, ok := r.(*TCPConn); ok {
		if k, ok := c.via().(*kernelTCP); ok {
			return k
		}
	}
	return nil
}

// noTCP carries the zero TCPConn, with the errors of net's.
type noTCP struct{}

func (noTCP) Read([]byte) (int, error)                     { return 0, syscall.EINVAL }
func (noTCP) Write([]byte) (int, error)                    { return 0, syscall.EINVAL }
func (noTCP) ReadFrom(io.Reader) (int64, error)            { return 0, syscall.EINVAL }
func (noTCP) WriteTo(io.Writer) (int64, error)             { return 0, syscall.EINVAL }
func (noTCP) Close() error                                 { return syscall.EINVAL }
func (noTCP) CloseRead() error                             { return syscall.EINVAL }
func (noTCP) CloseWrite() error                            { return syscall.EINVAL }
func (noTCP) LocalAddr() net.Addr                          { return nil }
func (noTCP) RemoteAddr() net.Addr                         { return nil }
func (noTCP) SetDeadline(time.Time) error                  { return syscall.EINVAL }
func (noTCP) SetReadDeadline(time.Time) error              { return syscall.EINVAL }
func (noTCP) SetWriteDeadline(time.Time) error             { return syscall.EINVAL }
func (noTCP) SetReadBuffer(int) error                      { return syscall.EINVAL }
func (noTCP) SetWriteBuffer(int) error                     { return syscall.EINVAL }
func (noTCP) SetLinger(int) error                          { return syscall.EINVAL }
func (noTCP) SetNoDelay(bool) error                        { return syscall.EINVAL }
func (noTCP) SetUserTimeout(time.Duration) error           { return syscall.EINVAL }
func (noTCP) SetKeepAlive(bool) error                      { return syscall.EINVAL }
func (noTCP) SetKeepAlivePeriod(time.Duration) error       { return syscall.EINVAL }
func (noTCP) SetKeepAliveConfig(net.KeepAliveConfig) error { return syscall.EINVAL }
func (noTCP) MultipathTCP() (bool, error)                  { return false, syscall.EINVAL }
func (noTCP) File() (*os.File, error)                      { return nil, syscall.EINVAL }
func (noTCP) SyscallConn() (syscall.RawConn, error)        { return nil, syscall.EINVAL }
func (noTCP) Info() (TCPInfo, error)                       { return TCPInfo{}, syscall.EINVAL }
func (noTCP) SetCongestionControl(string) error            { return syscall.EINVAL }
func (noTCP) SetMaxPacingRate(uint64) error                { return syscall.EINVAL }
func (noTCP) path() Path                                   { return Path{Reason: notOurs} }
