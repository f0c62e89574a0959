package engine

import (
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// udpBuffers remembers for freshFor the buffer sizes of new UDP sockets (sysctls
// rmem_default and wmem_default).
type udpBuffers struct {
	mu       sync.Mutex
	rcv, snd int
	at       time.Time
}

// defaultUDPBuffer is the sizes' default of Linux, where no socket can be asked.
const defaultUDPBuffer = 212992

// defaults returns SO_RCVBUF and SO_SNDBUF of a new UDP socket of the kernel's.
func (b *udpBuffers) defaults(e *Engine) (rcv, snd int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.rcv > 0 && time.Since(b.at) < freshFor {
		return b.rcv, b.snd
	}
	b.rcv, b.snd, b.at = defaultUDPBuffer, defaultUDPBuffer, time.Now()
	_ = e.onSocket(func(fd int) {
		if n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF); err == nil {
			b.rcv = n
		}
		if n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF); err == nil {
			b.snd = n
		}
	})
	return b.rcv, b.snd
}

// UDPBuffer returns the value that the option SO_RCVBUF or SO_SNDBUF of a UDP socket
// has once a program has set it to bytes. The kernel bounds it by rmem_max or
// wmem_max, and doubles it, since it counts what a datagram takes (socket(7)).
func (e *Engine) UDPBuffer(opt, bytes int) (value int) {
	err := e.onSocket(func(fd int) {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, opt, bytes)
		value, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, opt)
	})
	if err != nil || value <= 0 {
		const least = 4608 // SOCK_MIN_SNDBUF, the larger one of the two
		return max(2*min(max(bytes, 0), defaultUDPBuffer), least)
	}
	return value
}

// Buffers are the sizes of a socket's buffers that a program has set, by option. The
// zero Buffers are none.
type Buffers struct{ rcv, snd *int }

// Set notes SO_RCVBUF or SO_SNDBUF.
func (b *Buffers) Set(opt, bytes int) {
	if opt == unix.SO_RCVBUF {
		b.rcv = &bytes
	} else {
		b.snd = &bytes
	}
}

// Follow sets the options on a kernel socket. Errors are ignored: the
// kernel takes any size.
func (b *Buffers) Follow(f *os.File) {
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		if b.rcv != nil {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, *b.rcv)
		}
		if b.snd != nil {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, *b.snd)
		}
	})
}

// KernelDrops returns how many received datagrams a kernel socket has lost
// (SK_MEMINFO_DROPS of SO_MEMINFO, linux/sock_diag.h); 0 where it cannot be asked.
func KernelDrops(c syscall.Conn) (n uint64) {
	const drops, all = 8, 9
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) {
		var info [all]uint32
		size := uint32(unsafe.Sizeof(info))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
		if errno == 0 {
			n = uint64(info[drops])
		}
	})
	return n
}

// onSocket calls f with a new UDP socket of the kernel's.
func (e *Engine) onSocket(f func(fd int)) error {
	file, err := e.freshSocket(sockKind{unix.AF_INET, unix.SOCK_DGRAM, 0})
	if err != nil {
		return err
	}
	defer file.Close()
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(func(fd uintptr) { f(int(fd)) })
}
