package engine_test

import (
	"testing"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/engine"
	"github.com/onload-go/onload/internal/lab"
)

// TestInletWhereAccelerated: the kernel's packets are looked at only where something
// is accelerated.
func TestInletWhereAccelerated(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	ns, err := lab.NewNS("bare")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	for _, c := range []struct {
		path, name string
		want       bool
	}{{ns.Path, "auto", false}, {p.A.Path, p.A.If, true}} {
		e, err := engine.New(engine.Config{NetNS: c.path, Interfaces: []string{c.name}, Frames: 1024, RingSize: 256, Logger: zap.NewNop()})
		if err != nil {
			t.Fatal(err)
		}
		if got := e.HasInlet(); got != c.want {
			t.Errorf("%s: an inlet is open: %v", c.name, got)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}
