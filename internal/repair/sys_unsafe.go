package repair

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// getsockopt reads an option that is a struct into b, and returns its length in the
// kernel.
func getsockopt(fd, level, opt int, b []byte) (int, error) {
	n := uint32(len(b))
	_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), uintptr(opt),
		uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(unsafe.Pointer(&n)), 0)
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

// disconnect connects fd to nowhere: an address of AF_UNSPEC, for which x/sys has no
// type.
func disconnect(fd int) error {
	nowhere := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	_, _, e := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&nowhere)), unix.SizeofSockaddrInet4)
	if e != 0 {
		return os.NewSyscallError("connect", e)
	}
	return nil
}
