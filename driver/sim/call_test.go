package sim

import (
	"syscall"
	"testing"
	"time"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ring"
)

var _ driver.Caller = (*Queue)(nil)

// An armed queue calls at each kick that brings packets, and when it breaks. It
// calls nobody while it is not armed, and writes no descriptor.
func TestOnArrival(t *testing.T) {
	cfg := small(Config{TakeAll: true})
	a, b := link(t, cfg, cfg, LinkConfig{})
	f := build(protoUDP, addr4[0], addr4[1], nil)
	q := b.queues[0]
	calls := 0
	q.OnArrival(func() { calls++ })
	put := func() { send(t, a.queues[0], a.arena, f, ring.Desc{}) }

	put()
	if calls != 0 {
		t.Error("called without Arm")
	}
	recv(t, q, b.arena)
	if q.Arm() {
		t.Fatal("a packet was left")
	}
	put()
	put()
	if calls != 2 {
		t.Errorf("%d calls for two packets", calls)
	}
	q.Disarm()
	put()
	if calls != 2 {
		t.Error("called after Disarm")
	}
	recv(t, q, b.arena)
	if q.Arm() {
		t.Fatal("a packet was left")
	}
	b.Break(syscall.ENODEV)
	if calls != 3 {
		t.Error("not called when the queue broke")
	}
	if n := b.Wakeups(); n > 0 {
		t.Errorf("%d descriptors were written", n)
	}
}

// Packets that the link delays are called for when they have arrived.
func TestOnArrivalDelayed(t *testing.T) {
	cfg := small(Config{TakeAll: true})
	a, b := link(t, cfg, cfg, LinkConfig{AtoB: Faults{Delay: time.Millisecond}})
	called := make(chan struct{}, 16)
	q := b.queues[0]
	q.OnArrival(func() { called <- struct{}{} })
	if q.Arm() {
		t.Fatal("a packet before any was sent")
	}
	send(t, a.queues[0], a.arena, build(protoUDP, addr4[0], addr4[1], nil), ring.Desc{})
	select {
	case <-called:
	case <-time.After(patience):
		t.Fatal("nobody was called")
	}
	if !q.RxPending() {
		t.Error("called before the packet arrived")
	}
}
