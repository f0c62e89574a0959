package afxdp

import (
	"testing"

	"github.com/onload-go/onload/internal/lab"
)

// TestAltName: an interface opens by its alternative names, also by one that is
// too long for a main name.
func TestAltName(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	for _, name := range []string{"fast0", "a-name-that-is-longer-than-fifteen-bytes"} {
		must(t, p.A.AddAltName(name))
		d, err := Open(Config{Interface: name, InNS: p.A.Do, Frames: 1024, RxRing: 256})
		must(t, err)
		if d.Name() != p.A.If || d.Index() != p.A.Index {
			t.Errorf("%s opened %s, %d; want %s, %d", name, d.Name(), d.Index(), p.A.If, p.A.Index)
		}
		must(t, d.Close())
	}
}
