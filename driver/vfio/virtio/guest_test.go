//go:build guest

package virtio

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/onload-go/onload/driver/drivertest"
	"github.com/onload-go/onload/driver/vfio/nic/nictest"
	"github.com/onload-go/onload/internal/need"
	"github.com/onload-go/onload/internal/testlong"
	"github.com/onload-go/onload/ring"
)

// The tests here run in a guest with two virtio devices back to back that
// vfio-pci has, named by VMRUN_NIC0_PCI and VMRUN_NIC1_PCI: see TestInGuest.

func open(t *testing.T, nic string, host byte, c Config) drivertest.End {
	t.Helper()
	if c.Address = os.Getenv("VMRUN_" + nic + "_PCI"); c.Address == "" {
		t.Fatal("the tag guest needs a virtual machine with two NICs: see TESTING.md")
	}
	d, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	mac, err := hex.DecodeString(strings.ReplaceAll(os.Getenv("VMRUN_"+nic+"_MAC"), ":", ""))
	if err != nil || [6]byte(mac) != d.MAC() {
		t.Errorf("the MAC is %x, want %x, %v", d.MAC(), mac, err)
	}
	return drivertest.End{
		Device: d, MAC: d.MAC(),
		Addr4: netip.AddrFrom4([4]byte{10, 9, 0, host}), Addr6: netip.AddrFrom16([16]byte{0: 0xfd, 15: host}),
	}
}

// offloads reports whether the link between the NICs carries what a NIC may leave to
// the next: QEMU's hub does not, a pair of TAP devices does.
var offloads = os.Getenv("VMRUN_TAP") != ""

func TestGuestContract(t *testing.T) {
	small := Config{RxRing: 64, TxRing: 64, Frames: 512}
	with := func(c Config, without uint64) Config { c.without = without; return c }
	all := map[string]Config{"packed": {}, "small split": with(small, featPacked)}
	if testlong.Enabled() {
		all["small packed"], all["split"] = small, with(Config{}, featPacked)
		all["packed, no indirect"] = with(small, featIndirect)
		all["split, no events"], all["split, no indirect"] = with(small, featPacked|featEventIdx), with(small, featPacked|featIndirect)
		for _, size := range []int{2, 4, 16, 1024} {
			c := Config{RxRing: size, TxRing: size, Frames: 4096}
			if size == 2 {
				c.without = featMTU // two frames do not hold the guest's 9000
			}
			all[fmt.Sprint("packed of ", size)], all[fmt.Sprint("split of ", size)] = c, with(c, c.without|featPacked)
		}
	}
	if offloads && testlong.Enabled() {
		all["checksum"], all["off"] = Config{Offloads: OffloadsChecksum}, Config{Offloads: OffloadsOff}
		all["segments, not merged"] = with(Config{}, featGuestTSO)
	}
	for name, c := range all {
		without := []string{"Broken"}
		if !offloads || c.Offloads == OffloadsOff {
			without = append(without, "Checksum")
		}
		if !offloads || c.Offloads != OffloadsAuto {
			without = append(without, "Segment")
		}
		t.Run(name, func(t *testing.T) {
			drivertest.Run(t, func(t *testing.T) *drivertest.Ends {
				a, b := open(t, "NIC0", 1, c), open(t, "NIC1", 2, c)
				// A TAP device keeps for this test what the one before did not receive.
				if offloads && !strings.HasSuffix(t.Name(), "/Refill") {
					flush(t, a.Device.(*Device), b.Device.(*Device))
					flush(t, b.Device.(*Device), a.Device.(*Device))
				}
				return &drivertest.Ends{
					A: a, B: b, Without: without,
					SetLink: func(t *testing.T, up bool) { setLink(t, a.Device.(*Device), up) },
				}
			})
		})
	}
}

// TestGuestMTU: a ring that does not hold the link's largest packet is refused.
func TestGuestMTU(t *testing.T) {
	c := Config{Address: os.Getenv("VMRUN_NIC0_PCI"), FrameSize: 2048}
	d, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	mtu := d.Caps().MTU
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if mtu < 2*c.FrameSize {
		need.Missing(t, "a NIC with an MTU of %d or more, not %d", 2*c.FrameSize, mtu)
	}
	c.RxRing = 2
	if d, err = Open(c); err == nil {
		d.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "a receive ring of 2") {
		t.Errorf("the error is %v", err)
	}
}

// TestGuestWire is the contract of devices without MSI-X.
func TestGuestWire(t *testing.T) {
	c := Config{RxRing: 64, TxRing: 64, Frames: 512, without: featPacked}
	d, err := Open(Config{Address: os.Getenv("VMRUN_NIC0_PCI")})
	if err != nil {
		t.Fatal(err)
	}
	wired := d.wired()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if !wired {
		t.Skip("the guest's NICs have MSI-X")
	}
	drivertest.Run(t, func(t *testing.T) *drivertest.Ends {
		a, b := open(t, "NIC0", 1, c), open(t, "NIC1", 2, c)
		return &drivertest.Ends{
			A: a, B: b, Without: []string{"Broken", "Checksum", "Segment"},
			SetLink: func(t *testing.T, up bool) { setLink(t, a.Device.(*Device), up) },
			Stray:   true, // what is passed on may come after Disarm
		}
	})
}

// flush receives all that is on its way from one device to the other.
func flush(t *testing.T, from, to *Device) {
	t.Helper()
	x, y := from.queues[0], to.queues[0]
	to.takeAll = true
	y.Refill()
	f, _ := from.arena.Alloc()
	last := nictest.Frame(from.arena.Bytes(f)[ring.Headroom:], 1<<63, 60)
	x.TxBatch([]ring.Desc{{Frame: f, Off: ring.Headroom, Len: uint16(len(last))}})
	from.arena.Release(f)
	if err := x.Kick(); err != nil {
		t.Fatal(err)
	}
	ds := make([]ring.Desc, 64)
	for start, found := time.Now(), false; !found; runtime.Gosched() {
		for _, d := range ds[:y.RxBatch(ds)] {
			found = found || string(to.arena.Data(d)) == string(last)
			to.arena.Free(d.Frame)
		}
		if y.Refill(); time.Since(start) > time.Minute {
			t.Fatal("nothing comes")
		}
	}
	for x.TxSpace() < x.Caps().TxRing {
		x.Reclaim()
	}
	to.takeAll = false
	for _, q := range []*Queue{x, y} {
		q.stats = counters{}
	}
}
