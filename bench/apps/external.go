package main

import (
	"fmt"
	"os"
	"runtime"
	"syscall"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/bench/apps/program"
	"github.com/onload-go/onload/internal/lab"
)

// become turns this process into an external server, whose output goes to
// standard error: standard output is for messages.
func (o *order) become(e *program.External, say func(message)) error {
	c, err := e.Command(o.Dir, o.Host, o.Onload)
	if err != nil {
		return err
	}
	say(message{Server: &program.Server{Addr: c.Addr, Path: "its own"}})
	if err := unix.Dup3(2, 1, 0); err != nil {
		return os.NewSyscallError("dup3", err)
	}
	return become(c, e.Stop)
}

func become(c *program.Command, stop syscall.Signal) error {
	runtime.LockOSThread()
	if c.User != 0 {
		if err := syscall.Setgroups(nil); err != nil {
			return err
		}
		if err := syscall.Setgid(int(c.User)); err != nil {
			return err
		}
		if err := syscall.Setuid(int(c.User)); err != nil {
			return err
		}
	}
	// After the change of user the kernel no longer ends it with its parent.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(stop), 0, 0, 0); err != nil {
		return err
	}
	return os.NewSyscallError("exec "+c.Args[0], syscall.Exec(c.Args[0], c.Args, os.Environ()))
}

// checkXDP fails where an external server should use onload and does not, or
// the other way round. The server itself cannot be asked.
func checkXDP(ns *lab.NS, want bool) error {
	return ns.Do(func() error {
		l, err := netlink.LinkByName(ns.If)
		if err != nil {
			return err
		}
		if x := l.Attrs().Xdp; want != (x != nil && x.Attached) {
			return fmt.Errorf("the server's interface has an XDP program: %v, wanted: %v", !want, want)
		}
		return nil
	})
}
