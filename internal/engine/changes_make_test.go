package engine_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
)

// changes makes random changes of the network of uplinks, and mends them.
type changes struct {
	t   *testing.T
	u   *uplinks
	r   *rand.Rand
	log []string // what was done, in order

	links lab.Options // with which deleted ones are made again; zero: changesLinks

	broken []mending // what has been changed and not mended
	gone   [2]bool   // links that are deleted
}

// changesLinks have queues that are not in use.
var changesLinks = lab.Options{Queues: 4, InUse: 1}

// mending is a part of the network that can be mended on its own.
type mending struct {
	name string
	do   func()
}

// change makes one change, or mends a part that one has changed. Few are open at a time,
// so that transfers have good times too.
func (w *changes) change() {
	if n := len(w.broken); n > 0 && w.r.IntN(4) < n {
		i := w.r.IntN(n)
		m := w.broken[i]
		w.broken = slices.Delete(w.broken, i, i+1)
		w.note("mend %s", m.name)
		m.do()
		return
	}
	kinds := changeKinds
	if *changesOnly != "" {
		kinds = slices.DeleteFunc(slices.Clone(kinds), func(k changeKind) bool {
			return !slices.Contains(strings.Split(*changesOnly, ","), k.name)
		})
	}
	k := kinds[w.r.IntN(len(kinds))]
	w.note("%s", k.name)
	if m := k.do(w); m != nil {
		w.broken = append(w.broken, mending{k.name, m})
	}
}

func (w *changes) note(format string, args ...any) {
	w.log = append(w.log, time.Now().Format("05.000 ")+fmt.Sprintf(format, args...))
}

func (w *changes) last(n int) string {
	return strings.Join(w.log[max(0, len(w.log)-n):], "\n")
}

// do runs a tool in a namespace. Where an earlier change leaves no room for this one
// it fails, which is in the log.
func (w *changes) do(ns *lab.NS, command string, args ...any) bool {
	command = fmt.Sprintf(command, args...)
	f := strings.Fields(command)
	out, err := ns.Command(f[0], f[1:]...).CombinedOutput()
	if err != nil {
		w.note("  %s: %s: %s", ns.Name, command, strings.TrimSpace(string(out)))
		return false
	}
	w.note("  %s: %s", ns.Name, command)
	return true
}

// try notes what a call of the lab did.
func (w *changes) try(what string, err error) {
	if err != nil {
		w.note("  %s: %v", what, err)
		return
	}
	w.note("  %s", what)
}

// must is for what can always be done.
func (w *changes) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%v\n%s", err, w.last(60))
	}
}

func (w *changes) link() int { return w.r.IntN(2) }
func (w *changes) v6() bool  { return w.r.IntN(2) == 1 }

// network is the far networks of a family.
func network(v6 bool) string { return map[bool]string{false: "10.99.0.0/16", true: "fd99::/64"}[v6] }

// ip is the tool with the option of a family.
func ip(v6 bool) string { return map[bool]string{false: "ip -4", true: "ip -6"}[v6] }

// prepare gives A its service addresses and both hosts their routes.
func (w *changes) prepare() {
	for _, v6 := range []bool{false, true} {
		w.must(w.u.A.Sysctl("net."+map[bool]string{false: "ipv4.fib", true: "ipv6.fib"}[v6]+"_multipath_hash_policy", "1"))
		w.service(v6)
		w.routes(v6)
	}
	for _, v6 := range []bool{false, true} {
		w.u.await(w.t, far(v6, 1), service(v6))
	}
}

func (w *changes) service(v6 bool) {
	w.do(w.u.A, "ip addr replace %s dev lo", netip.PrefixFrom(service(v6), service(v6).BitLen()))
}

// routes has both hosts reach the other's own addresses by both links, where there
// are two.
func (w *changes) routes(v6 bool) {
	one := netip.PrefixFrom(service(v6), service(v6).BitLen()).String()
	for _, side := range []struct {
		ns       *lab.NS
		to       string
		near, at [2]*lab.Link
	}{{w.u.A, network(v6), w.u.a, w.u.r}, {w.u.R, one, w.u.r, w.u.a}} {
		var hops string
		for i := range side.near {
			if !w.gone[i] {
				hops += fmt.Sprintf(" nexthop via %s dev %s", addrOf(side.at[i], v6), side.near[i].If)
			}
		}
		w.do(side.ns, "%s route flush %s", ip(v6), side.to)
		if hops != "" {
			w.do(side.ns, "%s route replace %s%s", ip(v6), side.to, hops)
		}
	}
}

// addresses gives both ends of a link what it was made with.
func (w *changes) addresses(i int) {
	for _, l := range []*lab.Link{w.u.a[i], w.u.r[i]} {
		w.do(l.NS, "ip addr replace %s/24 dev %s", l.Addr4, l.If)
		w.do(l.NS, "ip addr replace %s/64 dev %s nodad", l.Addr6, l.If)
	}
	for _, v6 := range []bool{false, true} {
		w.routes(v6)
	}
}

// up brings a link up at both ends, and waits until it carries.
func (w *changes) up(i int) {
	if w.gone[i] {
		return
	}
	for _, l := range []*lab.Link{w.u.a[i], w.u.r[i]} {
		w.must(l.SetUp())
		w.must(l.SetMTU(1500))
	}
	w.addresses(i)
}

// remake makes a deleted link again, with its first name, by which the engine knows it.
// Packets come by it before the engine has it: none may be answered with a reset.
func (w *changes) remake(i int) {
	if !w.gone[i] {
		return
	}
	o := w.links
	if o == (lab.Options{}) {
		o = changesLinks
	}
	o.NoAddr = true
	w.u.a[i].If = fmt.Sprintf("veth%d", i)
	w.must(lab.Remake(w.u.a[i], w.u.r[i], o))
	w.gone[i] = false
	w.up(i)
}

// mend undoes what is left of the changes.
func (w *changes) mend() {
	w.note("the end")
	for _, m := range w.broken {
		m.do()
	}
	w.broken = nil
	for i := range w.u.a {
		w.remake(i)
	}
	for i := range w.u.a {
		w.up(i)
		for _, l := range []*lab.Link{w.u.a[i], w.u.r[i]} {
			w.do(l.NS, "ip neigh flush dev %s nud permanent", l.If)
			w.do(l.NS, "ip neigh flush dev %s", l.If)
		}
	}
}
