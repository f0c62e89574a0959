package afxdp

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// watch hears of the kernel's changes on a netlink socket.
type watch struct {
	f    *os.File // nil: not open
	raw  syscall.RawConn
	done chan struct{} // nil: not run
}

// open subscribes to a multicast group, in the namespace of the thread.
func (w *watch) open(proto, group int) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, proto)
	if err != nil {
		return fmt.Errorf("afxdp: socket(AF_NETLINK): %w", err)
	}
	f := os.NewFile(uintptr(fd), "netlink")
	raw, err := f.SyscallConn()
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, group)
	}
	if err != nil {
		f.Close()
		return fmt.Errorf("afxdp: netlink notices: %w", err)
	}
	w.f, w.raw = f, raw
	return nil
}

// run has a goroutine call changed after notices that matter, and after notices
// were lost. Several notices may lead to one call.
func (w *watch) run(matters func(typ uint16, body []byte) bool, changed func()) {
	w.done = make(chan struct{})
	go func() {
		defer close(w.done)
		buf := make([]byte, 32<<10)
		for {
			some := false
			err := w.raw.Read(func(fd uintptr) bool {
				for read := false; ; read = true {
					n, from, err := unix.Recvfrom(int(fd), buf, 0)
					switch {
					case err == unix.EAGAIN:
						return read
					case err == unix.EINTR:
						continue
					case err != nil: // ENOBUFS: some were lost
						some = true
						return true
					}
					if sa, ok := from.(*unix.SockaddrNetlink); !ok || sa.Pid != 0 {
						continue // not from the kernel
					}
					msgs, err := syscall.ParseNetlinkMessage(buf[:n])
					some = some || err != nil
					for _, m := range msgs {
						some = some || matters(m.Header.Type, m.Data)
					}
				}
			})
			if err != nil {
				return // closed
			}
			if some {
				changed()
			}
		}
	}()
}

// close ends the goroutine, and waits for a call of changed that is under way.
func (w *watch) close() error {
	if w.f == nil {
		return nil
	}
	err := w.f.Close()
	if w.done != nil {
		<-w.done
	}
	return err
}
