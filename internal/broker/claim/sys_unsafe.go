package claim

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// disconnect is connect(2) to AF_UNSPEC, which package unix has no address for.
func disconnect(fd int) error {
	sa := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	_, _, e := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
	if e != 0 {
		return e
	}
	return nil
}
