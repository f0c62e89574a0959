//go:build guest

package virtio

import (
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/vfio/nic/nictest"
	"github.com/onload-go/onload/internal/vmrun/monitor"
	"github.com/onload-go/onload/ring"
)

// setLink takes the link of NIC0 down or up, and waits until d has heard of it.
func setLink(t *testing.T, d *Device, up bool) {
	t.Helper()
	monitor.SetLink(t, 0, up, d)
}

// TestGuestQueues: with several pairs of queues each flow comes by the queue that the
// Caps say, and all queues send.
func TestGuestQueues(t *testing.T) {
	if os.Getenv("VMRUN_QUEUES") == "" {
		t.Skip("the guest's NICs have one pair of queues")
	}
	for name, without := range map[string]uint64{"packed": 0, "split": featPacked} {
		t.Run(name, func(t *testing.T) { testQueues(t, Config{Queues: 4, Frames: 8192, without: without, TakeAll: true}) })
	}
}

func testQueues(t *testing.T, c Config) {
	a, b := open(t, "NIC0", 1, c).Device.(*Device), open(t, "NIC1", 2, c).Device.(*Device)
	if len(a.queues) != 4 || len(b.queues) != 4 {
		t.Fatalf("%d and %d queues", len(a.queues), len(b.queues))
	}
	caps := b.Caps()
	if len(caps.RSSKey) == 0 || len(caps.RSSTable) < 4 {
		t.Fatalf("no RSS: a key of %d bytes, a table of %d", len(caps.RSSKey), len(caps.RSSTable))
	}
	hash := driver.NewToeplitz(caps.RSSKey)
	for _, q := range b.queues {
		q.Refill()
	}
	ds, hit := make([]ring.Desc, 64), map[int]bool{}
	for port := range uint16(64) {
		from := a.queues[port%4]
		fr, _ := a.Arena().Alloc()
		p := nictest.Frame(a.Arena().Bytes(fr)[ring.Headroom:], uint64(port), 100)
		p[34], p[35] = byte((1000+port)>>8), byte(1000+port)
		from.TxBatch([]ring.Desc{{Frame: fr, Off: ring.Headroom, Len: uint16(len(p))}})
		a.Arena().Release(fr)
		if err := from.Kick(); err != nil {
			t.Fatal(err)
		}
		want := driver.RSSQueue(caps.RSSTable, hash.Flow(
			netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[26:30])), 1000+port), netip.AddrPortFrom(netip.AddrFrom4([4]byte(p[30:34])), 7)))
		for start, came := time.Now(), false; !came; runtime.Gosched() {
			for i, q := range b.queues {
				for _, d := range ds[:q.RxBatch(ds)] {
					if string(b.Arena().Data(d)) == string(p) {
						came = true
						if hit[i] = true; i != want {
							t.Errorf("port %d came by queue %d, want %d", 1000+port, i, want)
						}
					}
					b.Arena().Free(d.Frame)
				}
				q.Refill()
			}
			if time.Since(start) > time.Minute {
				t.Fatal("nothing comes")
			}
		}
		for from.TxSpace() < from.Caps().TxRing {
			from.Reclaim()
		}
	}
	if len(hit) != 4 {
		t.Errorf("flows came by queues %v", hit)
	}
}
