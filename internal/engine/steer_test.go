package engine

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/onload-go/onload/internal/stack"
)

// callsNoted notes what is asked of it.
type callsNoted struct{ calls []string }

func (*callsNoted) boundTo() netip.Addr { return netip.Addr{} }

func (c *callsNoted) join(*stack.Stack) error {
	c.calls = append(c.calls, "join")
	return nil
}

func (c *callsNoted) steer() error {
	c.calls = append(c.calls, "steer")
	return nil
}

// TestSteerAfterJoins: a socket is on all stacks before packets come to any.
func TestSteerAfterJoins(t *testing.T) {
	var c callsNoted
	if err := joinAll(&c, make([]*stack.Stack, 3)); err != nil {
		t.Fatal(err)
	}
	if want := []string{"join", "join", "join", "steer"}; !slices.Equal(c.calls, want) {
		t.Errorf("%v, want %v", c.calls, want)
	}
}
