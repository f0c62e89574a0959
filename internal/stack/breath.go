package stack

import (
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// breath lets everything else in the process run while a goroutine spins. With
// several processors Gosched does. With one the runtime finds the spinner
// ready again before it asks its netpoller, and what the kernel carries
// (sockets, pipes) would wait for 10 ms: so the spinner goes through the
// netpoller itself, by a descriptor that it has just made ready.
type breath struct {
	file *os.File // an eventfd
	conn syscall.RawConn
	turn func(uintptr) bool
	out  bool // the write is done: the next call of turn ends the wait
}

func (b *breath) init() error {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	b.file = os.NewFile(uintptr(fd), "onload-breath")
	if b.conn, err = b.file.SyscallConn(); err != nil {
		b.file.Close()
		return err
	}
	one := [8]byte{1}
	b.turn = func(fd uintptr) bool {
		if b.out {
			b.out = false
			return true
		}
		_, err := unix.Write(int(fd), one[:])
		b.out = err == nil
		return err != nil
	}
	return nil
}

// take lets others run. The caller leads.
func (b *breath) take() {
	if runtime.GOMAXPROCS(0) > 1 || b.conn.Read(b.turn) != nil {
		runtime.Gosched()
	}
}

func (b *breath) close() { b.file.Close() }
