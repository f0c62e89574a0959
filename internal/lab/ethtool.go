package lab

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// offload is an ethtool command that sets one feature (linux/ethtool.h).
type offload uint32

const (
	txCsum offload = unix.ETHTOOL_STXCSUM
	tso    offload = unix.ETHTOOL_STSO
	gso    offload = unix.ETHTOOL_SGSO
	gro    offload = unix.ETHTOOL_SGRO
)

// setOffload switches a feature of the link.
func (l *Link) setOffload(what offload, on bool) error {
	value := struct{ cmd, data uint32 }{cmd: uint32(what)}
	if on {
		value.data = 1
	}
	return l.NS.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		ifr := struct {
			name [unix.IFNAMSIZ]byte
			data unsafe.Pointer
			_    [16]byte
		}{data: unsafe.Pointer(&value)}
		copy(ifr.name[:], l.If)
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&ifr)))
		if errno != 0 {
			return l.wrap("ethtool", errno)
		}
		return nil
	})
}
