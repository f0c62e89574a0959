package onload

import (
	"errors"
	"os"
	"sync"
	"syscall"
)

// rawConn is the RawConn of an accelerated connection.
type rawConn struct{ c *stackTCP }

func (r rawConn) unsupported() error { return r.c.opError("raw", "raw", errNoDescriptor) }

// Control implements syscall.RawConn.
func (r rawConn) Control(func(fd uintptr)) error { return r.unsupported() }

// Write implements syscall.RawConn.
func (r rawConn) Write(func(fd uintptr) bool) error { return r.unsupported() }

// Read lets f look at a descriptor that has nothing to read, provided that the
// connection has nothing to read. That is how connection pools ask whether a
// connection is still alive.
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
