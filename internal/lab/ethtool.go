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
	return l.ethtool(unsafe.Pointer(&value))
}

// SetQueues sets how many of its queues the link uses, to receive and to transmit,
// as `ethtool -L` does.
func (l *Link) SetQueues(n int) error {
	value := struct {
		cmd, maxRx, maxTx, maxOther, maxCombined uint32
		rx, tx, other, combined                  uint32
	}{cmd: unix.ETHTOOL_SCHANNELS, rx: uint32(n), tx: uint32(n)}
	return l.ethtool(unsafe.Pointer(&value))
}

// ethtool makes the request that value begins with.
func (l *Link) ethtool(value unsafe.Pointer) error {
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
		}{data: value}
		copy(ifr.name[:], l.If)
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&ifr)))
		if errno != 0 {
			return l.wrap("ethtool", errno)
		}
		return nil
	})
}
