package exception

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const tunFile = "/dev/net/tun"

// OpenTAP opens the TAP device of that name in the calling thread's network namespace,
// with a MAC and an MTU, and brings it up. One that is not there is made, which takes
// CAP_NET_ADMIN, and goes with the file. One that an administrator has made belongs to
// another user (ip tuntap add NAME mode tap user USER), and stays; it has to have that
// MTU and be up already. index is the interface's.
func OpenTAP(name string, mac [6]byte, mtu int) (f *os.File, index int, err error) {
	fd, err := unix.Open(tunFile, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w: is the module tun loaded?", tunFile, err)
	}
	fail := func(what string, err error) (*os.File, int, error) {
		return nil, 0, errors.Join(fmt.Errorf("TAP device %s: %s: %w", name, what, err), unix.Close(fd))
	}
	request, err := unix.NewIfreq(name)
	if err != nil {
		return fail("name", err)
	}
	request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		return fail("TUNSETIFF", err)
	}
	// Frames that the kernel sends are whole: their checksums are computed, and none is
	// to be cut.
	if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, 0); err != nil {
		return fail("TUNSETOFFLOAD", err)
	}
	if err := setMAC(fd, name, mac); err != nil {
		return fail("SIOCSIFHWADDR", err)
	}
	if index, err = setUp(name, mtu); err != nil {
		return fail("MTU and state", err)
	}
	return os.NewFile(uintptr(fd), name), index, nil
}

// SetCarrier has the kernel see the link up or down.
func SetCarrier(tap *os.File, up bool) error {
	raw, err := tap.SyscallConn()
	if err != nil {
		return err
	}
	carrier := 0
	if up {
		carrier = 1
	}
	cerr := raw.Control(func(fd uintptr) { err = unix.IoctlSetPointerInt(int(fd), unix.TUNSETCARRIER, carrier) })
	return errors.Join(cerr, os.NewSyscallError("TUNSETCARRIER", err))
}

// setUp sets the MTU of an interface, brings it up, and returns its index. An interface
// that is as it should be is left alone, so that its owner needs no privilege.
func setUp(name string, mtu int) (index int, err error) {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(s)
	r, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	call := func(what string, number uint) {
		if err == nil {
			err = os.NewSyscallError(what, unix.IoctlIfreq(s, number, r))
		}
	}
	if call("SIOCGIFMTU", unix.SIOCGIFMTU); err == nil && r.Uint32() != uint32(mtu) {
		r.SetUint32(uint32(mtu))
		call("SIOCSIFMTU", unix.SIOCSIFMTU)
	}
	if call("SIOCGIFFLAGS", unix.SIOCGIFFLAGS); err == nil && r.Uint16()&unix.IFF_UP == 0 {
		r.SetUint16(r.Uint16() | unix.IFF_UP)
		call("SIOCSIFFLAGS", unix.SIOCSIFFLAGS)
	}
	call("SIOCGIFINDEX", unix.SIOCGIFINDEX)
	return int(r.Uint32()), err
}
