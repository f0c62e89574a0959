package engine

import (
	"testing"

	"go.uber.org/zap"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/internal/stack"
)

// TestTeamGrowsWhole: where one stack of a team cannot have its part of the queues that
// come, no stack has any: their owner closes them.
func TestTeamGrowsWhole(t *testing.T) {
	dev, peer, err := sim.New(sim.Config{Name: "a", Queues: 2}, sim.Config{Name: "b"}, sim.LinkConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	more, morePeer, err := sim.New(sim.Config{Name: "a", Queues: 2, Arena: dev.Arena()}, sim.Config{Name: "b"}, sim.LinkConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer morePeer.Close()
	defer more.Close()
	e := newEngine(Config{Logger: zap.NewNop(), Interfaces: []string{"a"}})
	e.net = control.NewStatic(control.Link{Index: 1, Name: "a", MTU: 1500, Up: true, Carrier: true})
	c := e.stackConfig()
	c.Over(1, dev)
	team, err := stack.NewTeam(c, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer team[0].Close()
	i := &Interface{Name: "a", Index: 1, Stacks: team, Device: dev}
	if err := team[1].Close(); err != nil {
		t.Fatal(err)
	}
	if err := i.addQueues(more.Queues()); err == nil {
		t.Error("a stack that is closed took queues")
	}
	if n := len(team[0].LinkStats(1).Queues); n != 1 {
		t.Errorf("the other stack has %d queues, want the one that it had", n)
	}
}
