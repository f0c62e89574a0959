package engine_test

import (
	"testing"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// TestAltName: Config.Interfaces takes alternative names, and Status has the
// name that was asked for.
func TestAltName(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	for _, name := range []string{"fast0", "a-name-that-is-longer-than-fifteen-bytes"} {
		if err := p.A.AddAltName(name); err != nil {
			t.Fatal(err)
		}
		e, err := onload.New(onload.Config{NetNS: p.A.Path, Interfaces: []string{name}, Frames: 1024, RingSize: 256, Logger: zap.NewNop()})
		if err != nil {
			t.Fatal(err)
		}
		if st := e.Status()[0]; st.Name != name || st.Index != p.A.Index || !st.Path.Accelerated {
			t.Errorf("%s: %+v", name, st)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}
