package neigh

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/onload-go/onload/ip"
)

// TestLinkUp: when the link comes up, on another switch perhaps, neighbours hear of our
// addresses, those in use are asked at once, and are believed wherever they are; one that
// is not in use any more is not asked.
func TestLinkUp(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := new(wire)
			a, b := w.join(1, true, f.a), w.join(2, true, f.b)
			w.run(10 * time.Second)
			a.Resolve(f.addrB, w.now)
			b.Resolve(f.addrA, w.now)
			w.run(time.Second)
			// The address of b belongs to another host there, and ours was another's.
			b.deaf = true
			c := w.join(3, true, f.c)
			w.run(10 * time.Second)
			c.own[0].Prefix = netip.MustParsePrefix(f.b)
			c.known[f.addrA] = mac(9)
			c.insert(f.addrA, true, w.now)
			c.cache[f.addrA].mac = mac(9)
			c.enter(c.cache[f.addrA], stale, w.now+staleCheck)
			a.inUse[f.addrB] = true
			a.LinkUp(w.now)
			w.run(4 * time.Second)
			if a.known[f.addrB] != mac(3) || a.gone[f.addrB] != 0 {
				t.Errorf("known %v, gone %v", a.known, a.gone)
			}
			if c.known[f.addrA] != mac(1) {
				t.Errorf("the neighbour knows %v: our address was not announced", c.known)
			}
			a.inUse[f.addrB] = false
			w.run(10 * time.Second)
			a.sent = nil
			a.LinkUp(w.now)
			w.deliver()
			if n := len(asks(a, f.addrB)); n != 0 {
				t.Errorf("%d questions for a neighbour that is not in use", n)
			}
		})
	}
}

// asks are the questions for a neighbour that a host has sent.
func asks(e *end, of netip.Addr) (l [][]byte) {
	for _, b := range e.sent {
		var p ip.Packet
		var arp ip.ARP
		var ndp ip.NDP
		switch {
		case ip.ParseARP(b, &p, &arp) == nil:
			if arp.Op != ip.ARPRequest || arp.Target != of {
				continue
			}
		case ip.Parse(b, len(b), &p) != nil || ip.ParseNDP(&p, b[p.L4Off:][:p.L4Len], &ndp) != nil || ndp.Type != ip.NeighborSolicitation || ndp.Target != of:
			continue
		}
		l = append(l, b)
	}
	return l
}

// TestLinkUpTentative: an address that was asked for on a link without anybody is asked
// for again.
func TestLinkUpTentative(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := new(wire)
			w.join(2, true, f.a)
			w.run(10 * time.Second)
			a := w.join(1, false, f.a)
			a.deaf = true
			w.run(time.Duration(probeWait)) // the first question is lost
			a.deaf = false
			a.LinkUp(w.now)
			w.run(5 * time.Second)
			if a.has(f.addrA) {
				t.Error("another host's address is taken")
			}
		})
	}
}

// TestGroupsLinkUp: memberships are reported anew, in the newest version, also where an
// older router was heard on the link before; what was left is not.
func TestGroupsLinkUp(t *testing.T) {
	for _, f := range groupFamilies {
		t.Run(f.name, func(t *testing.T) {
			w, a := joinMember(t)
			left := f.g.Prev()
			a.SetFilter(f.g, Filter{Sources: []netip.Addr{f.s1}}, w.now)
			a.SetFilter(left, Filter{}, w.now)
			w.run(10 * time.Second)
			a.Input(queryFrame(f.v6, 2, f.all), w.now)
			w.run(10 * time.Second)
			a.SetFilter(left, Filter{Include: true}, w.now)
			a.sent = nil
			a.LinkUp(w.now)
			w.run(10 * time.Second)
			l := slices.DeleteFunc(reports(t, a), func(s string) bool {
				return s != "to-ex "+f.g.String()+" "+f.s1.String() && !slices.Contains([]string{"leave " + left.String(), "v2 " + f.g.String()}, s)
			})
			if want := slices.Repeat([]string{"to-ex " + f.g.String() + " " + f.s1.String()}, robustness); !slices.Equal(l, want) {
				t.Errorf("reported %q, want %q", l, want)
			}
		})
	}
}

// TestSLAACLinkUp: routers are asked for again, and one that does not answer there any
// more makes room for one that does.
func TestSLAACLinkUp(t *testing.T) {
	w := new(wire)
	old := w.join(8, true, routerAddr(8).String()+"/64")
	a := w.joinSLAAC()
	w.hear(a, advert{from: 8, lifetime: 1800})
	a.Resolve(routerAddr(8), w.now)
	w.run(time.Minute)
	old.deaf = true
	w.join(9, true, routerAddr(9).String()+"/64")
	a.sent = nil
	a.LinkUp(w.now)
	w.run(time.Second)
	solicited := slices.ContainsFunc(a.sent, func(b []byte) bool {
		var p ip.Packet
		return ip.Parse(b, len(b), &p) == nil && p.Proto == ip.ProtoICMPv6 && b[p.L4Off] == ip.RouterSolicitation
	})
	if !solicited {
		t.Error("no router is asked for")
	}
	w.hear(a, advert{from: 9, lifetime: 1800})
	w.run(30 * time.Second)
	if r := a.learnt.Routes; len(r) == 0 || r[len(r)-1].Via != routerAddr(9) {
		t.Errorf("routes %v", r)
	}
}
