package vmrun

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

const tunFile = "/dev/net/tun" // a container may have none

// tapMTU is larger than that of any NIC here.
const tapMTU = "9000"

// taps makes a TAP device for each NIC, with a file for each queue, in a network namespace that ends with the
// files. A bridge joins those of each hub. Unlike QEMU's hub they carry what a NIC
// leaves to the next one: checksums and segments (IFF_VNET_HDR).
func taps(nics []nic, queues int) (files []*os.File, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // the thread ends with the goroutine, in its namespace
		if err = unix.Unshare(unix.CLONE_NEWNET); err != nil {
			err = os.NewSyscallError("unshare", err)
			return
		}
		// The host sends nothing of its own, such as router solicitations.
		err = os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0)
		if errors.Is(err, os.ErrNotExist) {
			err = nil // it has no IPv6
		}
		bridges := map[int]bool{}
		for i := 0; i < len(nics) && err == nil; i++ {
			hub := nics[i].hub
			bridge := fmt.Sprintf("br%d", hub)
			if !bridges[hub] {
				bridges[hub] = true
				err = errors.Join(ip("link", "add", bridge, "mtu", tapMTU, "type", "bridge", "mcast_snooping", "0"), ip("link", "set", bridge, "up"))
			}
			name := fmt.Sprintf("tap%d", i)
			for k := 0; k < queues && err == nil; k++ {
				var f *os.File
				if f, err = tap(name, queues); err == nil {
					files = append(files, f)
				}
			}
			if err == nil {
				err = ip("link", "set", name, "mtu", tapMTU, "master", bridge, "up")
			}
		}
	}()
	<-done
	if err != nil {
		closeAll(files)
		return nil, err
	}
	return files, nil
}

// tap opens a queue of a TAP device.
func tap(name string, queues int) (*os.File, error) {
	fd, err := unix.Open(tunFile, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", tunFile, err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		if queues > 1 {
			flags |= unix.IFF_MULTI_QUEUE
		}
		request.SetUint16(flags)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		_ = unix.Close(fd) // it says nothing
		return nil, fmt.Errorf("%s: TUNSETIFF: %w", name, err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %q: %w: %s", args, err, out)
	}
	return nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
