package inspect

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// backlog is how many peers may wait to be accepted.
const backlog = 16

// listen makes the socket in the first of the folders that can be had.
func listen(folders []string, uid int) (f *os.File, path string, err error) {
	var errs []error
	for _, dir := range folders {
		if err := makeFolder(dir, uid); err != nil {
			errs = append(errs, err)
			continue
		}
		sweep(dir)
		f, path, err := listenIn(dir)
		if err == nil {
			return f, path, nil
		}
		errs = append(errs, err)
	}
	return nil, "", errors.Join(errs...)
}

// listenIn makes a socket in dir. It has its name when it listens: one that refuses its
// peers is removed as a dead process's.
func listenIn(dir string) (*os.File, string, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, "", os.NewSyscallError("socket", err)
	}
	name := fmt.Sprintf("%d-%08x%s", os.Getpid(), rand.Uint32(), suffix)
	path, early := filepath.Join(dir, name), filepath.Join(dir, "."+name)
	f := os.NewFile(uintptr(fd), path)
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: early}); err != nil {
		return nil, "", errors.Join(&os.PathError{Op: "bind", Path: path, Err: err}, f.Close())
	}
	err = os.Chmod(early, 0o600)
	if err == nil {
		err = os.NewSyscallError("listen", unix.Listen(fd, backlog))
	}
	if err == nil {
		err = os.Rename(early, path)
	}
	if err != nil {
		return nil, "", errors.Join(err, os.Remove(early), f.Close())
	}
	return f, path, nil
}

// accept returns the next peer's connection.
func accept(listener *os.File) (*os.File, error) {
	raw, err := listener.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	rerr := raw.Read(func(listening uintptr) bool {
		fd, _, err = unix.Accept4(int(listening), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
		return err != unix.EAGAIN && err != unix.EINTR && err != unix.ECONNABORTED
	})
	if rerr != nil {
		return nil, rerr
	}
	if err != nil {
		return nil, os.NewSyscallError("accept4", err)
	}
	return os.NewFile(uintptr(fd), "inspection"), nil
}

// Peer is the process at the other end of a connection.
type Peer struct{ PID, UID int }

func peerOf(c *os.File) (p Peer, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return p, err
	}
	var cred *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); cerr != nil {
		return p, cerr
	}
	if err != nil {
		return p, os.NewSyscallError("getsockopt", err)
	}
	return Peer{int(cred.Pid), int(cred.Uid)}, nil
}
