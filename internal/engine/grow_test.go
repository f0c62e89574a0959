package engine

import (
	"context"
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

// TestKeeperGrows: after a change of a link the keeper looks for queues, since
// drivers may change them without a notice. Close does not wait for busy ones.
func TestKeeperGrows(t *testing.T) {
	dev, peer, err := sim.New(sim.Config{Name: "a"}, sim.Config{Name: "b"}, sim.LinkConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	e := newEngine(Config{Logger: zap.NewNop(), Interfaces: []string{"a"}})
	e.net = control.NewStatic(control.Link{Index: 1, Name: "a", MTU: 1500, Up: true, Carrier: true})
	c := e.stackConfig()
	c.Over(1, dev)
	s, err := stack.New(c)
	if err != nil {
		t.Fatal(err)
	}
	g := &growable{dev, make(chan struct{})}
	e.ifs = []*Interface{{Name: "a", Index: 1, Stacks: []*stack.Stack{s}, Device: g}}
	e.keep()
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
