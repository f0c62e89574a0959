package stack

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/internal/control"
)

// comesBack is a device whose interface may be deleted.
type comesBack struct {
	*sim.Device
	refuses error // what AddPort returns
}

func (d *comesBack) Retire() int    { return 0 }
func (d *comesBack) Release() error { return d.Close() }
func (d *comesBack) Detach() error  { return nil }

func (d *comesBack) AddPort(proto uint8, local netip.AddrPort) error {
	if d.refuses != nil {
		return d.refuses
	}
	return d.Device.AddPort(proto, local)
}

// flapping is a stack with links 1 and 2, the first of which is lost and comes back.
type flapping struct {
	*twoLinked
	other *twoLinked
	index int // of the first link
}

func newFlapping(t *testing.T) *flapping {
	a, b := newTwoLinked(t, 1500, 1500, func(c *Config) { c.Spin = -1 })
	a.begin()
	a.links()[0].steering = &comesBack{Device: a.devs[0]} // nobody has steered yet
	a.ports.device = a.steering()
	a.end()
	return &flapping{twoLinked: a, other: b, index: 1}
}

// lose deletes the first link.
func (f *flapping) lose(t *testing.T) {
	t.Helper()
	was := f.index
	f.lead(2)
	f.other.lead(2)
	f.net.DelLink(was)
	if err := f.Retire(was); err != nil {
		t.Fatal(err)
	}
}

// device makes a device with n queues for a link that has the next index.
func (f *flapping) device(t *testing.T, n int, refuses error) (d *comesBack, l Link) {
	t.Helper()
	a, _, err := sim.New(sim.Config{MTU: 1500, Arena: f.arena, Queues: n}, sim.Config{MTU: 1500, Queues: n}, sim.LinkConfig{})
	if err != nil {
		t.Fatal(err)
	}
	f.index += 10
	f.net.SetLink(control.Link{Index: f.index, Name: a.Name(), MAC: [6]byte{2, 0, 0, 0, 1, 9}, MTU: 1500, Up: true})
	d = &comesBack{Device: a, refuses: refuses}
	return d, Link{Name: a.Name(), Index: f.index, Queues: a.Queues(), Steering: d}
}

// TestRelinkClosers: the devices of links that came back and went again are not kept.
func TestRelinkClosers(t *testing.T) {
	f := newFlapping(t)
	closed := 0
	for n := range 5 {
		was := f.index
		f.lose(t)
		if closed != n {
			t.Fatalf("%d of %d devices that were lost are closed", closed, n)
		}
		d, l := f.device(t, 1, nil)
		if err := f.Relink(was, l, func() error { closed++; return d.Close() }); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil || closed != 5 {
		t.Errorf("%d of 5 devices are closed after Close (%v)", closed, err)
	}
}

// TestRelinkPorts: a link that came back is the stack's, although it refuses a port.
func TestRelinkPorts(t *testing.T) {
	f := newFlapping(t)
	l7, err := f.ListenTCP(netip.AddrPortFrom(f.addr(), 7000), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l7.Close()
	was := f.index
	f.lose(t)
	d, l := f.device(t, 1, syscall.ENOSPC)
	if err := f.Relink(was, l, d.Close); err != nil {
		t.Errorf("Relink: %v; the stack has the link", err)
	}
	if err := f.LinkErr(was); !errors.Is(err, syscall.ENODEV) {
		t.Errorf("the link that was lost: %v", err)
	}
	if err := f.LinkErr(f.index); err != nil {
		t.Errorf("the link that came back: %v", err)
	}
}

// TestRetireRefuses: a link that is there stays, and only one that is put away is
// replaced.
func TestRetireRefuses(t *testing.T) {
	f := newFlapping(t)
	if err := f.Retire(f.index); !errors.Is(err, syscall.ENODEV) {
		t.Errorf("Retire of a link that is there: %v", err)
	}
	d, l := f.device(t, 1, nil)
	defer d.Close()
	if err := f.Relink(1, l, d.Close); !errors.Is(err, syscall.ENODEV) {
		t.Errorf("Relink of a link that is there: %v", err)
	}
}

// TestSeatFewerQueues: goroutines sit, although a link came back with fewer queues, and
// although one did not come back.
func TestSeatFewerQueues(t *testing.T) {
	f := newFlapping(t)
	if !f.waits.seat.open() {
		t.Fatal("the seat is closed at the start")
	}
	for _, n := range []int{4, 1} {
		was := f.index
		f.lose(t)
		if !f.waits.seat.open() {
			t.Error("nobody sits while a link is lost")
		}
		d, l := f.device(t, n, nil)
		if err := f.Relink(was, l, d.Close); err != nil {
			t.Fatal(err)
		}
		if seat := f.waits.seat; !seat.open() || !seat.settled(f.visible.Load()) {
			t.Errorf("nobody sits with a link of %d queues", n)
		}
	}
}
