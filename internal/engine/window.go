package engine

import (
	"io"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// window is a pair of Unix sockets, by their descriptors. A program that wants one
// gets the near end, and finds there what the far end has sent.
type window struct{ near, far int }

// newWindow returns a window through which the end of a stream is seen: io.EOF,
// ECONNRESET or, by who writes, EPIPE; nil: there is none.
func newWindow(end error) (*window, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	w := &window{fds[0], fds[1]}
	switch end {
	case syscall.ECONNRESET:
		// A Unix socket that is closed with something unread resets its peer.
		if _, err := unix.Write(w.near, []byte{0}); err != nil {
			w.close()
			return nil, os.NewSyscallError("write", err)
		}
		w.closeFar()
	case io.EOF, syscall.EPIPE:
		w.closeFar()
	}
	return w, nil
}

// show sends p, as much as there is room for, and returns how much that was.
func (w *window) show(p []byte) int {
	if len(p) == 0 {
		return 0
	}
	n, _ := unix.Write(w.far, p)
	return max(n, 0)
}

// unread is how much of that nobody has read.
func (w *window) unread() int {
	n, _ := unix.IoctlGetInt(w.near, unix.SIOCINQ)
	return n
}

// sawReset reports whether the reset was seen: the first call that meets it takes
// it away.
func (w *window) sawReset() bool {
	errno, err := unix.GetsockoptInt(w.near, unix.SOL_SOCKET, unix.SO_ERROR)
	return err == nil && errno == 0
}

// written is what was written at the near end.
func (w *window) written() ([]byte, error) {
	if w.far < 0 {
		return nil, nil
	}
	n, err := unix.IoctlGetInt(w.far, unix.SIOCINQ)
	if err != nil || n == 0 {
		return nil, os.NewSyscallError("ioctl", err)
	}
	p := make([]byte, n)
	for have := 0; have < n; {
		k, err := unix.Read(w.far, p[have:])
		if err != nil || k == 0 {
			return p[:have], os.NewSyscallError("read", err)
		}
		have += k
	}
	return p, nil
}

func (w *window) closeFar() {
	_ = unix.Close(w.far)
	w.far = -1
}

func (w *window) close() {
	if w.far >= 0 {
		w.closeFar()
	}
	_ = unix.Close(w.near)
}
