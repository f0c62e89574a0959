package broker

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxGroups is NGROUPS_MAX of linux/limits.h.
const maxGroups = 65536

// peerGroups returns the supplementary groups of the process at the other end of a
// Unix socket (SO_PEERGROUPS).
func peerGroups(fd int) ([]uint32, error) {
	for size := uint32(64); ; {
		groups := make([]uint32, size)
		n := size * 4
		_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&n)), 0)
		switch {
		case e == unix.ERANGE && n/4 > size && n/4 <= maxGroups:
			size = n / 4 // the kernel says how many there are
			continue
		case e != 0:
			return nil, e
		}
		return groups[:n/4], nil
	}
}
