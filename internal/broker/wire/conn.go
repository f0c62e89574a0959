package wire

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Conn is a connection between a broker and a client. One goroutine may send while
// another receives.
type Conn struct {
	f      *os.File
	closed atomic.Bool
	stuck  atomic.Pointer[chan struct{}] // closed: what Discard has left behind is closed
}

// NewConn returns a Conn over fd, a connected seqpacket socket, which is its own from
// then on.
func NewConn(fd int) (*Conn, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	return &Conn{f: os.NewFile(uintptr(fd), "broker")}, nil
}

// Times of Dial where the broker's queue of clients is full.
const (
	queueWait  = time.Second
	queuePause = 5 * time.Millisecond
)

// Dial connects to the broker at a path. Where the broker's queue of clients is full, as
// because of another client's flood, it waits for a place.
func Dial(path string) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	for end := time.Now().Add(queueWait); ; time.Sleep(queuePause) {
		err := unix.Connect(fd, &unix.SockaddrUnix{Name: path})
		if err == nil {
			return NewConn(fd)
		}
		if err != unix.EAGAIN || time.Now().After(end) {
			_ = unix.Close(fd)
			return nil, &os.PathError{Op: "connect", Path: path, Err: err}
		}
	}
}

// Close ends the connection. Send and Receive that wait return os.ErrClosed.
func (c *Conn) Close() error {
	c.closed.Store(true)
	return c.f.Close()
}

// ended returns err, or os.ErrClosed after Close: the runtime has an error of its own.
func (c *Conn) ended(err error) error {
	if c.closed.Load() {
		return os.ErrClosed
	}
	return err
}

// SetDeadline bounds Send and Receive; the zero time is no bound.
func (c *Conn) SetDeadline(t time.Time) error { return c.f.SetDeadline(t) }

// SetReadDeadline bounds Receive alone.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.f.SetReadDeadline(t) }

// SetWriteDeadline bounds Send alone.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.f.SetWriteDeadline(t) }

// Do calls fn with the socket.
func (c *Conn) Do(fn func(fd int) error) error {
	raw, err := c.f.SyscallConn()
	if err != nil {
		return err
	}
	cerr := raw.Control(func(fd uintptr) { err = fn(int(fd)) })
	return errors.Join(cerr, err)
}

// Send sends a message with descriptors, which stay the caller's.
func (c *Conn) Send(seq uint16, m Message, fds ...int) error {
	b, err := Append(make([]byte, 0, 256), seq, m)
	if err != nil {
		return err
	}
	if len(b) > MaxMessage || len(fds) > MaxFiles {
		return malformed("%d bytes with %d descriptors", len(b), len(fds))
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	raw, err := c.f.SyscallConn()
	if err != nil {
		return err
	}
	werr := raw.Write(func(fd uintptr) bool {
		_, err = unix.SendmsgN(int(fd), b, oob, nil, unix.MSG_NOSIGNAL)
		return err != unix.EAGAIN
	})
	if werr != nil {
		return c.ended(werr)
	}
	return os.NewSyscallError("sendmsg", err)
}

// Receive returns the next message and the descriptors that came with it, which are
// the caller's. The error is io.EOF when the other side has closed. After an error,
// other than of a deadline, the Conn is of no use.
func (c *Conn) Receive() (seq uint16, m Message, fds []int, err error) {
	b := make([]byte, MaxMessage)
	// One descriptor more than allowed: too many are seen. Beyond that the kernel
	// cuts, and says so.
	oob := make([]byte, unix.CmsgSpace(4*(MaxFiles+1)))
	var n, oobn, flags int
	raw, err := c.f.SyscallConn()
	if err != nil {
		return 0, nil, nil, err
	}
	rerr := raw.Read(func(fd uintptr) bool {
		n, oobn, flags, _, err = unix.Recvmsg(int(fd), b, oob, unix.MSG_CMSG_CLOEXEC)
		return err != unix.EAGAIN && err != unix.EINTR
	})
	if rerr != nil {
		return 0, nil, nil, c.ended(rerr)
	}
	if err != nil {
		return 0, nil, nil, os.NewSyscallError("recvmsg", err)
	}
	fds, err = rights(oob[:oobn])
	if err == nil {
		seq, m, err = parsed(b[:n], flags, fds)
	}
	if err != nil {
		if stuck := c.Discard(fds); stuck != nil {
			err = errors.Join(err, stuck)
		}
		return 0, nil, nil, err
	}
	return seq, m, fds, nil
}

func parsed(b []byte, flags int, fds []int) (seq uint16, m Message, err error) {
	switch {
	case len(b) == 0:
		return 0, nil, io.EOF // no message is empty
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		return 0, nil, malformed("too large")
	}
	if seq, m, err = Parse(b); err != nil {
		return 0, nil, err
	}
	if n := files(m); len(fds) != n {
		return 0, nil, malformed("kind %d with %d descriptors instead of %d", m.kind(), len(fds), n)
	}
	return seq, m, nil
}

// files is the number of descriptors that come with a message.
func files(m Message) int {
	switch m := m.(type) {
	case *Grant, *Claim, *Flows:
		return 1
	case *Granted:
		return 2 + int(m.Segments)
	}
	return 0
}

// rights returns the descriptors of control messages. It returns those that it found
// in case of an error, too.
func rights(oob []byte) (fds []int, err error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	for i := range msgs {
		l, e := unix.ParseUnixRights(&msgs[i])
		if e != nil {
			err = fmt.Errorf("%w: %w", ErrMalformed, e)
		}
		fds = append(fds, l...)
	}
	return fds, err
}

// discardWait is how long descriptors may take to be closed.
const discardWait = 5 * time.Second

// ErrStuck says that a descriptor is not closed yet.
var ErrStuck = errors.New("broker: a descriptor that was passed takes long to close")

// closed is a channel that is closed.
var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// Discard closes descriptors that the other side has passed. Their files may be of any
// kind, and close(2) waits for a file system's server (FUSE), or for a socket's peer
// (SO_LINGER), for as long as the other side likes. So another goroutine does it. If it
// takes long, the error is ErrStuck, and the connection has to end.
func (c *Conn) Discard(fds []int) error {
	if len(fds) == 0 {
		return nil
	}
	done := make(chan struct{})
	go func() {
		CloseAll(fds)
		close(done)
	}()
	t := time.NewTimer(discardWait)
	defer t.Stop()
	select {
	case <-done:
		return nil
	case <-t.C:
		c.stuck.Store(&done)
		return ErrStuck
	}
}

// Discarded is closed when no descriptor is left of those that Discard was given.
func (c *Conn) Discarded() <-chan struct{} {
	if p := c.stuck.Load(); p != nil {
		return *p
	}
	return closed
}

// CloseAll closes descriptors.
func CloseAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
