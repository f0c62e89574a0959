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

// TestNeighborDeletedMeanwhile: a resolution whose entry is deleted before it can
// have failed goes on. One that had the time to fail has failed.
func TestNeighborDeletedMeanwhile(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	k := newKernel(t, p.A)
	r := record(t, k)
	deleted := func(key neighborKey, asked time.Time) {
		k.requests.mu.Lock()
		k.requests.asked[key] = asked
		k.requests.mu.Unlock()
		k.hear([]neighborEvent{{neighborKey: key, final: true}}, false)
	}
	live := neighborKey{p.A.Index, p.B.Addr4}
	deleted(live, time.Now().Add(time.Minute)) // so that no pause of the machine ages it
	r.want(t, Change{NeighborUp, live.link, live.addr})
	if r.has(Change{NeighborFailed, live.link, live.addr}) {
		t.Error("the neighbour failed")
	}
	dead := neighborKey{p.A.Index, p.B.Addr4.Next()}
	deleted(dead, time.Now().Add(-time.Minute))
	if !r.has(Change{NeighborFailed, dead.link, dead.addr}) {
		t.Error("a resolution that had its time has not failed")
	}
}
