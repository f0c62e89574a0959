package nicshare

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/netns"
)

// Pins of an interface with the same name and index in another namespace are left alone.
func TestPinsOfAnotherNamespace(t *testing.T) {
	w := newNetwork(t)
	n, err := Open(w.config(ModeGeneric))
	must(t, err)
	p := start(t, w.A, n, LinkConfig{})
	w.allow(p, udp, port)
	must(t, n.Detach())
	other, err := netns.New()
	must(t, err)
	defer other.Close()
	must(t, other.Do(func() error {
		a := netlink.NewLinkAttrs()
		a.Name, a.Index = w.A.If, w.A.Index
		return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: a})
	}))
	c := w.config(ModeGeneric)
	c.InNS = other.Do
	if n, err := Open(c); !errors.Is(err, unix.EBUSY) {
		t.Errorf("opened by the pins of another namespace: %v", err)
		if err == nil {
			must(t, n.Detach())
		}
	}
	peer := observe(t, w.B)
	w.exchangeOnce(t, p, peer)
	n, err = Open(w.config(ModeGeneric))
	must(t, err)
	if len(n.Links()) != 1 {
		t.Errorf("links %v, pins in %s", n.Links(), filepath.Join(w.pins, w.A.If))
	}
	must(t, n.Close())
	w.nothingLeft(t)
}
