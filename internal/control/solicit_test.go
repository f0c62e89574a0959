package control

import (
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/onload-go/onload/internal/lab"
)

// withoutLinkLocal takes the link-local address away, as addr_gen_mode 1 does.
func withoutLinkLocal(t *testing.T, ns *lab.NS) {
	t.Helper()
	if err := ns.DelAddr(netip.PrefixFrom(ns.LinkLocal, 64)); err != nil {
		t.Fatal(err)
	}
}

// A neighbour is found where the interface has no link-local address, so that
// the kernel sends no solicitation.
func TestSolicit(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	withoutLinkLocal(t, p.A)
	withoutLinkLocal(t, p.B)
	k := newKernel(t, p.A)
	r := record(t, k)
	link := p.A.Index
	k.Resolve(link, p.B.Addr6)
	r.want(t, Change{NeighborUp, link, p.B.Addr6})
	if mac, ok := k.Neighbor(link, p.B.Addr6); !ok || mac != p.B.MAC {
		t.Errorf("%v is %x, %v", p.B.Addr6, mac, ok)
	}

	// One that answers a later solicitation only.
	late := addr("fd77::77")
	k.Resolve(link, late)
	eventually(t, "incomplete entry", func() bool { return state(t, p.A, late) == netlink.NUD_INCOMPLETE })
	time.Sleep(10 * time.Millisecond) // the first solicitation finds nobody
	k.Resolve(link, late)
	net := p.B.Netlink()
	l, err := net.LinkByIndex(p.B.Index)
	if err != nil {
		t.Fatal(err)
	}
	a, err := netlink.ParseAddr(late.String() + "/64")
	if err != nil {
		t.Fatal(err)
	}
	const noDAD = 0x02 // IFA_F_NODAD
	a.Flags |= noDAD
	if err := net.AddrAdd(l, a); err != nil {
		t.Fatal(err)
	}
	r.want(t, Change{NeighborUp, link, late})

	// A stale entry is confirmed, without the kernel's probes.
	stale := &netlink.Neigh{LinkIndex: link, State: netlink.NUD_STALE, IP: p.B.Addr6.AsSlice(), HardwareAddr: p.B.MAC[:]}
	if err := p.A.Netlink().NeighSet(stale); err != nil {
		t.Fatal(err)
	}
	eventually(t, "stale entry", func() bool { return state(t, p.A, p.B.Addr6) == netlink.NUD_STALE })
	k.Confirm(link, p.B.Addr6)
	eventually(t, "reachable entry", func() bool { return state(t, p.A, p.B.Addr6) == netlink.NUD_REACHABLE })

	// Nobody has this one.
	k.Resolve(link, addr("fd77::99"))
	r.want(t, Change{NeighborFailed, link, addr("fd77::99")})
}

// Where there is a link-local address the kernel asks alone.
func TestKernelSolicits(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	k := newKernel(t, p.A)
	key := neighborKey{p.A.Index, p.B.Addr6}
	if sent, err := k.solicitor.solicit(k.view.Load(), key); sent || err != nil {
		t.Errorf("a solicitation of ours: %v, %v", sent, err)
	}
	withoutLinkLocal(t, p.A)
	eventually(t, "the address is gone", func() bool { return !k.view.Load().links[p.A.Index].linkLocal() })
	if sent, err := k.solicitor.solicit(k.view.Load(), key); !sent || err != nil {
		t.Errorf("no solicitation of ours: %v, %v", sent, err)
	}
}
