//go:build guest

package virtio

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/vfio/nic/nictest"
	"github.com/onload-go/onload/internal/vmrun/monitor"
	"github.com/onload-go/onload/ring"
)

const vfioDriver = "/sys/bus/pci/drivers/vfio-pci/"

// TestGuestUnbound: whoever unbinds a device that is in use, under traffic, gets it: its
// queues end with an error, and Close or Retire lets the kernel go on. It can be bound
// and opened again.
func TestGuestUnbound(t *testing.T) {
	address := os.Getenv("VMRUN_NIC0_PCI")
	for name, giveBack := range map[string]func(*Device) error{"Close": (*Device).Close, "Retire": retire} {
		t.Run(name, func(t *testing.T) {
			a, b := open(t, "NIC0", 1, Config{Frames: 512}).Device.(*Device), open(t, "NIC1", 2, Config{Frames: 512, TakeAll: true}).Device.(*Device)
			unbound := make(chan error, 1)
			sendUntilGone(t, a, b, func() {
				go func() { unbound <- os.WriteFile(vfioDriver+"unbind", []byte(address), 0) }()
			})
			if a.LinkUp() {
				t.Error("the link is up")
			}
			if err := giveBack(a); err != nil {
				t.Error(err)
			}
			select {
			case err := <-unbound:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(time.Minute):
				t.Fatal("the kernel waits for the device")
			}
			if err := os.WriteFile(vfioDriver+"bind", []byte(address), 0); err != nil {
				t.Fatal(err)
			}
		})
	}
	open(t, "NIC0", 1, Config{})
}

// retire puts a device away and wants all its frames back.
func retire(d *Device) error {
	if left := d.Retire(); left != 0 || d.arena.FreeFrames() != d.arena.Frames() {
		return fmt.Errorf("%d of %d frames are free, %d are left", d.arena.FreeFrames(), d.arena.Frames(), left)
	}
	return d.Release()
}

// TestGuestUnplugged: a device that is pulled out under traffic ends with an error, and
// is gone once it is closed.
func TestGuestUnplugged(t *testing.T) {
	a, b := open(t, "NIC0", 1, Config{}).Device.(*Device), open(t, "NIC1", 2, Config{TakeAll: true}).Device.(*Device)
	sendUntilGone(t, a, b, func() {
		monitor.Command(t, `{"execute": "device_del", "arguments": {"id": "nic0"}}`)
	})
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	file := filepath.Join("/sys/bus/pci/devices", a.Name())
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
			return
		}
		if time.Since(start) > time.Minute {
			t.Fatal("the device is still there")
		}
	}
}

// sendUntilGone sends frames from a to b until a ends. Once some have come it has take
// take a away.
func sendUntilGone(t *testing.T, a, b *Device, take func()) {
	t.Helper()
	x, y, ds := a.queues[0], b.queues[0], make([]ring.Desc, 64)
	received, taken := 0, false
	for start, number := time.Now(), uint64(0); x.Err() == nil; runtime.Gosched() {
		if f, ok := a.arena.Alloc(); ok {
			p := nictest.Frame(a.arena.Bytes(f)[ring.Headroom:], number, 60)
			number += uint64(x.TxBatch([]ring.Desc{{Frame: f, Off: ring.Headroom, Len: uint16(len(p))}}))
			a.arena.Release(f)
		}
		_ = x.Kick() // Err has it
		x.Reclaim()
		y.Refill()
		n := y.RxBatch(ds)
		for _, d := range ds[:n] {
			b.arena.Free(d.Frame)
		}
		if received += n; received > 0 && !taken {
			taken = true
			take()
		}
		if time.Since(start) > 2*time.Minute {
			t.Fatalf("the device does not hear that it is to go; %d frames came", received)
		}
	}
	if !errors.Is(x.Err(), driver.ErrGone) || x.Kick() == nil || x.TxBatch([]ring.Desc{{}}) != 0 || !x.Arm() {
		t.Errorf("error %v; the queue goes on", x.Err())
	}
}
