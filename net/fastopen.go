package onload

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/tcp"
)

// fastOpenKeys are the keys of the kernel's socket fd, its own or the
// namespace's. Package unix reads such a value as a string of C's, which ends at
// a zero.
func fastOpenKeys(fd int) (k tcp.FastOpenKeys) {
	var b [2 * len(tcp.FastOpenKey{})]byte
	n := uint32(len(b))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_FASTOPEN_KEY,
		uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		return k
	}
	k, _ = tcp.NewFastOpenKeys(b[:n])
	return k
}
