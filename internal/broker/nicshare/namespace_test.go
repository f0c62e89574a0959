package nicshare

import (
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
)

// decoy is a namespace that has an interface for every index of the first ones.
func decoy(t *testing.T) *lab.NS {
	t.Helper()
	lab.NeedRoot(t)
	ns, err := lab.NewNS("decoy")
	must(t, err)
	t.Cleanup(func() { must(t, ns.Close()) })
	for i := range decoys / 2 {
		a := netlink.NewLinkAttrs()
		a.Name = fmt.Sprintf("a%d", i)
		must(t, ns.Netlink().LinkAdd(&netlink.Veth{LinkAttrs: a, PeerName: fmt.Sprintf("b%d", i)}))
	}
	return ns
}

// decoys is how many interfaces a decoy has beside its loopback.
const decoys = 40

// untouched checks that no interface of the calling thread's namespace has a program or
// is up.
func untouched(t *testing.T, after string) {
	t.Helper()
	all, err := netlink.LinkList()
	must(t, err)
	for _, k := range all {
		a := k.Attrs()
		if a.Xdp != nil && a.Xdp.Attached {
			t.Errorf("after %s: %s has an XDP program", after, a.Name)
		}
		if a.Name != "lo" && a.Flags&unix.IFF_UP != 0 {
			t.Errorf("after %s: %s is up", after, a.Name)
		}
		for _, at := range []ebpf.AttachType{ebpf.AttachTCXIngress, ebpf.AttachTCXEgress} {
			r, err := link.QueryPrograms(link.QueryOptions{Target: a.Index, Attach: at})
			if must(t, err); len(r.Programs) > 0 {
				t.Errorf("after %s: %s has %v at %v", after, a.Name, r.Programs, at)
			}
		}
	}
}

// An index names an interface of one namespace, and the kernel looks it up in that of
// the thread. All that a NIC does it does to interfaces of its own namespace, whatever
// thread calls: here one of a namespace where each index is somebody else's.
func TestOtherNamespace(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			w := newNetwork(t)
			other := decoy(t)
			filtered := func(l *Link) {
				t.Helper()
				must(t, w.A.Do(func() error {
					r, err := link.QueryPrograms(link.QueryOptions{Target: l.index, Attach: ebpf.AttachTCXIngress})
					if err == nil && (len(r.Programs) != 1 || l.index > decoys) {
						t.Errorf("near end %d has programs %v", l.index, r.Programs)
					}
					return err
				}))
			}
			must(t, other.Do(func() error {
				n, err := Open(w.config(mode))
				must(t, err)
				untouched(t, "Open")
				l, err := n.NewLink(LinkConfig{})
				must(t, err)
				untouched(t, "NewLink")
				filtered(l)
				memfd, err := sealed(frames*frameSize, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW)
				must(t, err)
				defer unix.Close(memfd)
				g, err := l.Grant(grantConfig(memfd))
				must(t, err)
				defer g.Close()
				untouched(t, "Grant")
				must(t, l.Allow(Port{Proto: udp, Port: port}, Port{tcp, w.A.Addr4, port}))
				if !l.Alive() {
					t.Error("the link does not live")
				}
				must(t, n.Detach())
				untouched(t, "Detach")
				n, err = Open(w.config(mode))
				must(t, err)
				untouched(t, "Open again")
				ls := n.Links()
				if len(ls) != 1 || !ls[0].Alive() {
					t.Fatalf("links %v", ls)
				}
				filtered(ls[0])
				must(t, ls[0].Close())
				must(t, n.Close())
				untouched(t, "Close")
				return nil
			}))
			w.nothingLeft(t)
		})
	}
}

// After Detach there is no handle of the NIC's namespace: nothing is asked in another.
func TestAliveAfterDetach(t *testing.T) {
	w := newNetwork(t)
	n, err := Open(w.config(ModeGeneric))
	must(t, err)
	p := start(t, w.A, n, LinkConfig{})
	must(t, n.Detach())
	must(t, w.A.Do(func() error {
		if p.link.Alive() {
			t.Error("the link of a NIC that was detached lives")
		}
		return nil
	}))
	n, err = Open(w.config(ModeGeneric))
	must(t, err)
	must(t, n.Close())
}
