package vmxnet3

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/vfio"
	"github.com/onload-go/onload/driver/vfio/nic"
)

// The device tells by an interrupt that a queue has stopped, or is gone: that breaks the
// queue, and wakes whoever waits.
func TestEvents(t *testing.T) {
	for name, tt := range map[string]struct {
		happens func(d *Device)
		want    string // "": nothing breaks
	}{
		"receiving stops": {func(d *Device) {
			d.shared.Write32(sharedEvents, eventReceiveError)
			d.shared.Write8(rxQueue+queueStopped, 1)
			d.shared.Write32(rxQueue+queueError, 0x80000004)
		}, "receives nothing more: error 0x80000004"},
		"sending stops": {func(d *Device) {
			d.shared.Write32(sharedEvents, eventSendError)
			d.shared.Write8(txQueue+queueStopped, 1)
			d.shared.Write32(txQueue+queueError, 0x80000002)
		}, "sends nothing more: error 0x80000002"},
		"gone":           {func(d *Device) { d.slow.Write32(regRevision, gone) }, driver.ErrGone.Error()},
		"nothing stops":  {func(d *Device) { d.shared.Write32(sharedEvents, eventSendError|eventReceiveError) }, ""},
		"the link fails": {func(d *Device) { d.shared.Write32(sharedEvents, eventLink); d.up.Store(true) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHostile(t, 1500)
			fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
			if err != nil {
				t.Fatal(err)
			}
			// In memory the answer to a command is its number: that to cmdLink is even.
			d := &Device{
				Base: nic.Loose(h.Arena), queue: h.Queue, events: os.NewFile(uintptr(fd), "test"),
				fast: h.fast, slow: make(vfio.Regs, 4096), shared: h.shared,
			}
			d.PCI = &vfio.Device{}
			d.slow.Write32(regRevision, revision1)
			called, ended := make(chan struct{}, 1), make(chan struct{})
			d.OnLink(func() { called <- struct{}{} })
			go func() { d.watch(); close(ended) }()
			defer func() {
				if err := d.events.Close(); err != nil {
					t.Error(err)
				}
				<-ended
			}()
			if h.Arm() {
				t.Fatal("a packet")
			}
			d.Registers(func() { tt.happens(d) })
			if _, err := unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
				t.Fatal(err)
			}
			<-called
			switch err := h.Err(); {
			case tt.want == "":
				if err != nil || d.LinkUp() {
					t.Errorf("%v, the link is up: %v", err, d.LinkUp())
				}
				return
			case err == nil || !strings.Contains(err.Error(), tt.want):
				t.Errorf("%v, want %s", err, tt.want)
			case name == "gone" && !errors.Is(err, driver.ErrGone):
				t.Errorf("%v is not ErrGone", err)
			}
			fds := []unix.PollFd{{Fd: int32(h.WaitFD()), Events: unix.POLLIN}}
			if n, err := unix.Poll(fds, 60_000); n != 1 {
				t.Errorf("whoever waits is not woken: %v", err)
			}
		})
	}
}
