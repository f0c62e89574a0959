package engine

import (
	"context"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/internal/stack"
)

// growable is a device whose queues change without a notice. Grow waits until its
// context ends.
type growable struct {
	driver.Device
	grows chan struct{}
}

func (g *growable) Grow(ctx context.Context, _ func([]driver.Queue) error) error {
	g.grows <- struct{}{}
	<-ctx.Done()
	return ctx.Err()
}

func (g *growable) Missing() string { return "" }

// growing is an engine over a link in memory, whose device is what wrap makes of it. It
// has a keeper.
func growing(t *testing.T, wrap func(driver.Device) driver.Device) *Engine {
	t.Helper()
	dev, peer, err := sim.New(sim.Config{Name: "a"}, sim.Config{Name: "b"}, sim.LinkConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	e := newEngine(Config{Logger: zap.NewNop(), Interfaces: []string{"a"}})
	e.net = control.NewStatic(control.Link{Index: 1, Name: "a", MTU: 1500, Up: true, Carrier: true})
	c := e.stackConfig()
	c.Over(1, dev)
	s, err := stack.New(c)
	if err != nil {
		t.Fatal(err)
	}
	e.ifs = []*Interface{{Name: "a", Index: 1, Stacks: []*stack.Stack{s}, Device: wrap(dev)}}
	e.keep()
	return e
}

// refusing is a device whose queues can be taken at the second attempt.
type refusing struct {
	driver.Device
	grows chan struct{}
	tried bool // of the keeper's goroutine
}

func (r *refusing) Grow(context.Context, func([]driver.Queue) error) error {
	first := !r.tried
	r.tried = true
	r.grows <- struct{}{}
	if first {
		return syscall.ENOBUFS
	}
	return nil
}

func (r *refusing) Missing() string { return "" }

// TestKeeperGrowsAgain: queues that could not be taken are tried again, without news.
func TestKeeperGrowsAgain(t *testing.T) {
	r := &refusing{grows: make(chan struct{})}
	e := growing(t, func(dev driver.Device) driver.Device {
		r.Device = dev
		return r
	})
	defer e.Close()
	e.keeper.news <- struct{}{}
	for range 2 {
		select {
		case <-r.grows:
		case <-time.After(time.Minute):
			t.Fatal("the keeper does not try again")
		}
	}
}

// TestKeeperGrows: after a change of a link the keeper looks for queues, since
// drivers may change them without a notice. Close does not wait for busy ones.
func TestKeeperGrows(t *testing.T) {
	g := &growable{grows: make(chan struct{})}
	e := growing(t, func(dev driver.Device) driver.Device {
		g.Device = dev
		return g
	})
	e.keeper.news <- struct{}{}
	select {
	case <-g.grows:
	case <-time.After(time.Minute):
		t.Error("the keeper does not look for queues")
	}
	closed := make(chan error, 1)
	go func() { closed <- e.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("Close waits for a queue that is busy")
	}
}
