package tcp

import (
	"testing"
	"unsafe"
)

// An idle connection is to stay below 1 KiB of memory in all.
func TestConnSize(t *testing.T) {
	n := unsafe.Sizeof(Conn{})
	t.Logf("Conn %d, Congestion %d, RTT %d, TimeWait %d", n, unsafe.Sizeof(Congestion{}), unsafe.Sizeof(RTT{}), unsafe.Sizeof(TimeWait{}))
	if n > 616 {
		t.Errorf("a Conn takes %d bytes", n)
	}
}
