package vmrun

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
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

// Where a kernel cannot be fetched the next test does not wait for the network again.
func TestFetchFails(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("PATH", t.TempDir()) // there is no apt-get
	_, first := fetched(t.Context(), Stable)
	if first == nil || errors.Is(first, os.ErrNotExist) {
		t.Fatalf("the first time: %v", first)
	}
	dir := t.TempDir()
	apt, asked := filepath.Join(dir, "apt-get"), filepath.Join(dir, "asked")
	if err := os.WriteFile(apt, []byte("#!/bin/sh\n: >"+asked+"\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	if _, err := fetched(t.Context(), Stable); err == nil || !strings.Contains(err.Error(), first.Error()) {
		t.Errorf("the second time: %v", err)
	}
	if _, err := os.Stat(asked); err == nil {
		t.Error("the network is asked the second time")
	}
	cache, err := cacheDir()
	if err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-2 * failureValid)
	if err := os.Chtimes(failure(cache, Stable), long, long); err != nil {
		t.Fatal(err)
	}
	if _, err := fetched(t.Context(), Stable); err == nil {
		t.Error("apt-get fails, and there is a kernel")
	}
	if _, err := os.Stat(asked); err != nil {
		t.Errorf("long after: %v", err)
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
