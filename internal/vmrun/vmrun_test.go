package vmrun

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/vmrun/protocol"
)

func TestParse(t *testing.T) {
	got, err := Guest{Links: []string{"virtio/vfio,mq=on+e1000e"}, NICs: []string{"e1000/none"}}.parse()
	want := []nic{
		{protocol.NIC{Model: "virtio-net-pci", Driver: "vfio", Slot: "0000:00:03.0", Port: true, MAC: "52:54:00:12:00:00"}, "virtio", "disable-legacy=on,iommu_platform=on,mq=on", 0},
		{protocol.NIC{Model: "e1000e", Driver: "kernel", Slot: "0000:00:04.0", Port: true, MAC: "52:54:00:12:00:01"}, "e1000e", "", 0},
		{protocol.NIC{Model: "e1000", Driver: "none", Slot: "0000:00:05.0", MAC: "52:54:00:12:01:02"}, "e1000", "", 1},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	for _, g := range []Guest{{Links: []string{"virtio"}}, {NICs: []string{"ne2000"}}, {NICs: []string{"virtio/dpdk"}}, {NICs: make([]string, 25)}} {
		if _, err := g.parse(); err == nil {
			t.Errorf("%+v is understood", g)
		}
	}
}

func TestDecompress(t *testing.T) {
	want := []byte("\x7fELF and more")
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(want); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	packed.WriteString("a kernel has more behind it")
	for _, b := range [][]byte{want, packed.Bytes()} {
		if got, err := decompress(b); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%q, %v", got, err)
		}
	}
	if _, err := decompress([]byte("other")); err == nil {
		t.Error("something else is unpacked")
	}
}

// One process has the lock, and whoever waits for it can be called off.
func TestLock(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	unlock, err := lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := lock(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second one: %v", err)
	}
	unlock()
	unlock, err = lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}
