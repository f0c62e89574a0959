package virtio

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver/vfio"
)

// A device reports its link, and an error of its own, by an interrupt of its
// configuration. The latter breaks the queues, and wakes whoever waits.
func TestConfigChanges(t *testing.T) {
	h := newHostile(t, 0)
	d := h.dev
	d.pci, d.features = &vfio.Device{}, featStatus
	d.regs = &structures{common: make(vfio.Regs, commonLen), device: make(vfio.Regs, netConfigLen)}
	d.queues = []*Queue{h.Queue}
	var fd int
	var err error
	if d.changes, fd, err = newEvent("test"); err != nil {
		t.Fatal(err)
	}
	if h.fd, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	called := make(chan struct{}, 9)
	d.OnLink(func() { called <- struct{}{} })
	ended := make(chan struct{})
	go func() { d.watch(func() (bool, error) { return true, nil }); close(ended) }()
	change := func(apply func()) {
		t.Helper()
		d.mu.Lock()
		apply()
		d.mu.Unlock()
		if _, err := unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
			t.Fatal(err)
		}
		select {
		case <-called:
		case <-time.After(time.Minute):
			t.Fatal("nobody is told")
		}
	}
	for _, up := range []bool{true, false, true} {
		change(func() {
			d.regs.device.Write16(netStatus, 0)
			if up {
				d.regs.device.Write16(netStatus, statusLinkUp)
			}
		})
		if d.LinkUp() != up || h.Err() != nil {
			t.Errorf("the link is up: %v, want %v; %v", d.LinkUp(), up, h.Err())
		}
	}
	if h.Arm() {
		t.Fatal("a packet")
	}
	change(func() { d.regs.common.Write8(regStatus, statusDriverOK|statusNeedsReset) })
	if err := h.Err(); err == nil || !strings.Contains(err.Error(), "wants a reset") {
		t.Error(err)
	}
	fds := []unix.PollFd{{Fd: int32(h.fd), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds, 60_000); n != 1 {
		t.Errorf("whoever waits is not woken: %v", err)
	}
	if err := d.closeChanges(); err != nil {
		t.Fatal(err)
	}
	<-ended
	h.closeFD()
}
