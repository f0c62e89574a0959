package stack

import (
	"strings"
	"testing"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/internal/control"
)

// TestQueueLimit: the error for an interface with more queues than a stack takes
// says how many that is, and names the setting that chooses some.
func TestQueueLimit(t *testing.T) {
	dev, peer, err := sim.New(sim.Config{}, sim.Config{}, sim.LinkConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	c := Config{Net: control.NewStatic()}
	c.Over(1, dev)
	c.Links[0].Name = "eth0"
	c.Links[0].Queues = make([]driver.Queue, MaxQueues+1)
	_, err = New(c)
	if err == nil {
		t.Fatal("65 queues are taken")
	}
	for _, want := range []string{"eth0 has 65 queues", "at most 64", "ONLOAD_QUEUES"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not say %q", err, want)
		}
	}
}
