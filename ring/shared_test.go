package ring

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestSharedArena: another mapping of the descriptor shows the same frames, nobody can
// change the size, and after Close the pages are gone although the other mapping lives.
func TestSharedArena(t *testing.T) {
	a, err := NewSharedArena(16, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if own, err := NewArena(16, 2048); err != nil || own.FD() != -1 {
		t.Errorf("an arena of one process has descriptor %d, %v", own.FD(), err)
	}
	f, ok := a.Alloc()
	if !ok {
		t.Fatal("no frame")
	}
	copy(a.Bytes(f), "hello")
	size := 16 * 2048
	for _, n := range []int{0, size - 4096, size + 4096} {
		if err := unix.Ftruncate(a.FD(), int64(n)); err != unix.EPERM {
			t.Errorf("ftruncate to %d: %v", n, err)
		}
	}
	other, err := unix.Mmap(a.FD(), 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(other)
	at := int(f) * 2048
	if got := string(other[at : at+5]); got != "hello" {
		t.Errorf("the other mapping has %q", got)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if got := string(other[at : at+5]); got != "\x00\x00\x00\x00\x00" {
		t.Errorf("after Close the other mapping has %q", got)
	}
	if got := string(a.Bytes(f)[:5]); got != "\x00\x00\x00\x00\x00" {
		t.Errorf("after Close the arena has %q", got)
	}
	if a.FD() != -1 {
		t.Errorf("after Close there is descriptor %d", a.FD())
	}
}
