// Package netns runs code inside a Linux network namespace.
//
// A namespace belongs to an OS thread, not to a goroutine: what Do runs is
// locked to a thread of its own. Sockets keep the namespace they were made in,
// so only their creation has to happen inside Do.
package netns

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// threadPath names the namespace of the calling thread. /proc/self would be
// the main thread's.
const threadPath = "/proc/thread-self/ns/net"

// Handle is a reference to a network namespace, which lives at least as long
// as the Handle is open. Copies share one descriptor. The zero Handle means
// the namespace that the calling thread is in, that is the process's own
// unless called from within Do.
type Handle struct {
	f *os.File
}

// Open returns a Handle to the namespace that path names, for instance
// /run/netns/NAME or /proc/PID/ns/net.
func Open(path string) (Handle, error) {
	f, err := os.Open(path)
	if err != nil {
		return Handle{}, err
	}
	kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
	if err == nil && kind != unix.CLONE_NEWNET {
		err = unix.EINVAL
	}
	if err != nil {
		f.Close()
		return Handle{}, &os.PathError{Op: "open network namespace", Path: path, Err: err}
	}
	return Handle{f}, nil
}

// Current returns a Handle to the namespace of the calling thread.
func Current() (Handle, error) {
	return Open(threadPath)
}

// New makes an empty namespace that no name refers to: it ends with the last
// Handle, socket and process in it.
func New() (Handle, error) {
	var h Handle
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return os.NewSyscallError("unshare", err)
		}
		var err error
		h, err = Current()
		return err
	})
	return h, err
}

// IsZero reports whether h is the zero Handle.
func (h Handle) IsZero() bool { return h.f == nil }

// Path returns a path by which this process, and others while this one lives
// and has h open, can open the namespace.
func (h Handle) Path() string {
	if h.f == nil {
		return fmt.Sprintf("/proc/%d/ns/net", os.Getpid())
	}
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), h.f.Fd())
}

// Dup returns a Handle to the same namespace with a life of its own. Of the
// zero Handle it makes one that stays valid on every thread.
func (h Handle) Dup() (Handle, error) {
	if h.f == nil {
		return Current()
	}
	var fd int
	err := h.control(func(old uintptr) (err error) {
		fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0)
		return os.NewSyscallError("fcntl", err)
	})
	if err != nil {
		return Handle{}, err
	}
	return Handle{os.NewFile(uintptr(fd), "netns")}, nil
}

// Equal reports whether both refer to the same namespace. A closed Handle equals
// nothing.
func (h Handle) Equal(o Handle) bool {
	a, err := h.stat()
	if err != nil {
		return false
	}
	b, err := o.stat()
	return err == nil && a.Dev == b.Dev && a.Ino == b.Ino
}

func (h Handle) stat() (st unix.Stat_t, err error) {
	if h.f == nil {
		err = unix.Stat(threadPath, &st)
		return st, err
	}
	err = h.control(func(fd uintptr) error { return unix.Fstat(int(fd), &st) })
	return st, err
}

// Close gives the reference up. Closing the zero Handle does nothing.
func (h Handle) Close() error {
	if h.f == nil {
		return nil
	}
	return h.f.Close()
}

// Do runs fn inside the namespace and returns its error. fn has an OS thread
// to itself; goroutines that it starts do not run in the namespace. A panic or
// runtime.Goexit (t.Fatal) in fn carries over to the caller. With the zero
// Handle fn is simply called.
func (h Handle) Do(fn func() error) error {
	if h.f == nil {
		return fn()
	}
	return onThread(func() error {
		if err := h.enter(); err != nil {
			return err
		}
		return fn()
	})
}

// WithFD calls fn with the descriptor, which stays open meanwhile.
func (h Handle) WithFD(fn func(fd int) error) error {
	if h.f == nil {
		cur, err := Current()
		if err != nil {
			return err
		}
		defer cur.Close()
		return cur.WithFD(fn)
	}
	return h.control(func(fd uintptr) error { return fn(int(fd)) })
}

func (h Handle) enter() error {
	return h.control(func(fd uintptr) error {
		return os.NewSyscallError("setns", unix.Setns(int(fd), unix.CLONE_NEWNET))
	})
}

// control calls fn with the descriptor, which cannot be closed meanwhile.
func (h Handle) control(fn func(fd uintptr) error) error {
	c, err := h.f.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := c.Control(func(fd uintptr) { inner = fn(fd) }); err != nil {
		return os.ErrClosed // the only failure there is, under a private name
	}
	return inner
}

// outcome is how fn ended: by returning, by panicking or by Goexit.
type outcome struct {
	err      error
	panicked any
	returned bool
}

// onThread runs fn on a locked thread that goes back to its namespace
// afterwards, or dies if that is impossible. Threads do not die as a rule,
// because a dying thread kills the children it started with Pdeathsig, even
// those from long before.
func onThread(fn func() error) error {
	done := make(chan outcome, 1)
	go lockedRun(fn, done)
	o := <-done
	switch {
	case o.returned:
		return o.err
	case o.panicked != nil:
		panic(o.panicked)
	default:
		runtime.Goexit()
		return nil
	}
}

func lockedRun(fn func() error, done chan<- outcome) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// /proc/self shows the main thread's namespace to everyone: leave that
		// thread alone. While it is locked here the next goroutine cannot get it.
		inner := make(chan outcome, 1)
		go lockedRun(fn, inner)
		done <- <-inner
		runtime.UnlockOSThread()
		return
	}
	home, err := Current()
	if err != nil {
		runtime.UnlockOSThread()
		done <- outcome{err: err, returned: true}
		return
	}
	var o outcome
	defer func() {
		if !o.returned {
			o.panicked = recover()
		}
		// Not unlocked, the thread ends with this goroutine.
		if home.enter() == nil {
			runtime.UnlockOSThread()
		}
		home.Close()
		done <- o
	}()
	o.err = fn()
	o.returned = true
}

// Privileged returns nil if the calling thread may make and enter namespaces
// and configure networks, else an error that names the missing privilege.
func Privileged() error {
	var hdr unix.CapUserHeader
	var data [2]unix.CapUserData
	hdr.Version = unix.LINUX_CAPABILITY_VERSION_3
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return os.NewSyscallError("capget", err)
	}
	var errs []error
	if data[0].Effective&(1<<unix.CAP_NET_ADMIN) == 0 {
		errs = append(errs, fmt.Errorf("CAP_NET_ADMIN is missing: %w", syscall.EPERM))
	}
	if data[0].Effective&(1<<unix.CAP_SYS_ADMIN) == 0 {
		errs = append(errs, fmt.Errorf("CAP_SYS_ADMIN is missing: %w", syscall.EPERM))
	}
	return errors.Join(errs...)
}
