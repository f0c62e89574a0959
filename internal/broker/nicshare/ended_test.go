package nicshare

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// A broker that was killed while it made a link leaves a near end without a filter. The
// next one removes it, also while the far end's namespace is there still.
func TestKilledInNewLink(t *testing.T) {
	w := newNetwork(t)
	n, err := Open(w.config(ModeGeneric))
	must(t, err)
	l, err := n.NewLink(LinkConfig{})
	must(t, err)
	far, err := l.made.ns.Dup()
	must(t, err)
	defer far.Close()
	must(t, w.A.Do(func() error {
		return link.RawDetachProgram(link.RawDetachProgramOptions{Target: l.index, Program: n.filter.Program, Attach: ebpf.AttachTCXIngress})
	}))
	must(t, n.Detach())
	n, err = Open(w.config(ModeGeneric))
	must(t, err)
	if ls := n.Links(); len(ls) != 0 {
		t.Errorf("links %v", ls)
	}
	p := start(t, w.A, n, LinkConfig{})
	if p.link.ID() != 0 {
		t.Errorf("ID %d", p.link.ID())
	}
	w.allow(p, udp, port)
	w.exchangeOnce(t, p, observe(t, w.B))
	must(t, n.Close())
	w.nothingLeft(t)
}

// A process may end while the next broker takes its link over.
func TestProcessEndsInRestart(t *testing.T) {
	w := newNetwork(t)
	n, err := Open(w.config(ModeGeneric))
	must(t, err)
	for range 5 {
		p := start(t, w.A, n, LinkConfig{})
		w.allow(p, udp, port)
		must(t, n.Detach())
		p.kill()
		for range 10 {
			n, err = Open(w.config(ModeGeneric))
			must(t, err)
			if len(n.Links()) == 0 {
				break
			}
			must(t, n.Detach())
		}
		for _, l := range n.Links() {
			must(t, l.Close())
		}
	}
	must(t, n.Close())
	w.nothingLeft(t)
}
