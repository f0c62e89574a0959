package broker

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/broker/wire"
)

// listener is the broker's socket in the file system. The policy decides who may do what, so
// everybody may connect.
type listener struct {
	path   string
	f      *os.File
	once   sync.Once
	closed atomic.Bool
}

// backlog is how many clients may wait (wire.Dial).
const backlog = 256

func listen(path string) (*listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	l := &listener{path: path, f: os.NewFile(uintptr(fd), path)}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		_ = l.f.Close()
		return nil, &os.PathError{Op: "bind", Path: path, Err: err}
	}
	err = os.Chmod(path, 0o666)
	if err == nil {
		err = os.NewSyscallError("listen", unix.Listen(fd, backlog))
	}
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	return l, nil
}

// removeStale removes the socket of a broker that has died. Of one that lives the error is
// EADDRINUSE.
func removeStale(path string) error {
	i, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if i.Mode().Type() != os.ModeSocket {
		return &os.PathError{Op: "listen", Path: path, Err: unix.EEXIST}
	}
	c, err := wire.Dial(path)
	if err == nil {
		_ = c.Close()
		return &os.PathError{Op: "listen", Path: path, Err: unix.EADDRINUSE}
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}

// accept returns the next client, or os.ErrClosed after Close.
func (l *listener) accept() (*wire.Conn, error) {
	raw, err := l.f.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	rerr := raw.Read(func(listening uintptr) bool {
		fd, _, err = unix.Accept4(int(listening), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		return err != unix.EAGAIN && err != unix.EINTR && err != unix.ECONNABORTED
	})
	if l.closed.Load() { // the runtime's error is one of its own
		if rerr == nil && err == nil {
			_ = unix.Close(fd)
		}
		return nil, os.ErrClosed
	}
	if rerr != nil {
		return nil, rerr
	}
	if err != nil {
		return nil, os.NewSyscallError("accept4", err)
	}
	return wire.NewConn(fd)
}

// Close ends accept, and removes the socket.
func (l *listener) Close() (err error) {
	l.closed.Store(true)
	l.once.Do(func() { err = errors.Join(os.Remove(l.path), l.f.Close()) })
	return err
}
