package control

import (
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
)

// TestNeighborTableFull: that the kernel's table has no room for a neighbour does
// not mean that it is unreachable.
// The request is put again; the limit itself is the whole machine's, and left alone.
func TestNeighborTableFull(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	k := newKernel(t, p.A)
	r := record(t, k)
	key := neighborKey{p.A.Index, p.B.Addr4}
	k.requests.mu.Lock()
	k.requests.asked[key] = time.Now()
	k.requests.mu.Unlock()
	k.later(key)
	r.want(t, Change{NeighborUp, p.A.Index, p.B.Addr4})
	if r.has(Change{NeighborFailed, p.A.Index, p.B.Addr4}) {
		t.Error("the neighbour failed")
	}
}
