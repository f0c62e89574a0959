package engine

import (
	"errors"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// Foreign returns why the kernel alone carries a socket that was passed to the program,
// whatever its address: it is connected, does not listen, or is not of the engine's
// network namespace, as far as the kernel can say (SO_NETNS_COOKIE, Linux 5.14). It is
// empty for all others.
func (e *Engine) Foreign(c syscall.Conn) (why string) {
	if !e.Accelerates() {
		return e.Notice()
	}
	own, err := e.cookie()
	if err != nil {
		return fmt.Sprintf("the network namespace of the passed socket: %v", err)
	}
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { why = passedWhy(int(fd), own) })
	}
	if err != nil {
		return fmt.Sprintf("the passed socket: %v", err)
	}
	return why
}

// passedWhy is Foreign for a descriptor. own is the namespace's cookie.
func passedWhy(fd int, own uint64) string {
	if theirs, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE); err != nil || theirs != own {
		return "the passed socket is of another network namespace"
	}
	if _, err := unix.Getpeername(fd); err == nil {
		return "the passed socket is connected"
	}
	typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil || typ != unix.SOCK_STREAM {
		return ""
	}
	if listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err == nil && listens == 0 {
		return "the passed socket does not listen"
	}
	return ""
}

// cookie is the kernel's number of the engine's network namespace.
func (e *Engine) cookie() (n uint64, err error) {
	f, err := e.freshSocket(sockKind{unix.AF_INET, unix.SOCK_DGRAM, 0})
	if err != nil {
		return 0, err
	}
	defer f.Close()
	raw, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := raw.Control(func(fd uintptr) {
		n, err = unix.GetsockoptUint64(int(fd), unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	})
	return n, errors.Join(err, cerr)
}
