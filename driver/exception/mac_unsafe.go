package exception

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// hardware is struct ifreq with a link-layer address (netdevice(7)).
type hardware struct {
	name   [unix.IFNAMSIZ]byte
	family uint16
	mac    [6]byte
	rest   [16]byte
}

// setMAC sets the MAC of a TAP device by its own file, for which its owner needs no
// privilege.
func setMAC(fd int, name string, mac [6]byte) error {
	h := hardware{family: unix.ARPHRD_ETHER, mac: mac}
	copy(h.name[:], name)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFHWADDR, uintptr(unsafe.Pointer(&h)))
	if errno != 0 {
		return errno
	}
	return nil
}
