package control

import (
	"errors"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

// FirstStatic is the least index of a Static network's link that may be joined with
// a kernel's. The kernel numbers its links from 1.
const FirstStatic = 1 << 30

// Joined is the network of a host some of whose links no kernel knows. An address
// belongs to one of both parts, and the longest prefix decides between their routes.
// Of two of the same length the Static one counts: it was configured for this
// process, while the kernel's default route is there in any case.
type Joined struct {
	kernel *Kernel
	static *Static
	one    sync.Mutex // a subscriber hears of one change at a time
}

var _ Network = (*Joined)(nil)

// Join returns the network of both. static has links from FirstStatic on. Close closes
// both.
func Join(kernel *Kernel, static *Static) *Joined { return &Joined{kernel: kernel, static: static} }

// of returns the part that has a link.
func (j *Joined) of(link int) Network {
	if link >= FirstStatic {
		return j.static
	}
	return j.kernel
}

// Route implements Network.
func (j *Joined) Route(f Flow) (Route, error) { return j.routedBy(&f).Route(f) }

// routedBy returns the part whose routes a flow takes.
func (j *Joined) routedBy(f *Flow) Network {
	if f.Src.IsValid() && !f.Src.IsUnspecified() {
		// Answers come where the address is.
		if _, ok := j.static.Local(f.Src); ok {
			return j.static
		}
		return j.kernel
	}
	dst := f.Dst.WithZone("")
	if f.Link >= FirstStatic {
		return j.static
	}
	if dst.IsMulticast() || f.Dst.Zone() != "" || f.Link != 0 {
		return j.kernel // the default link of groups is the kernel's business
	}
	if n := j.static.view.Load().longest(dst); n >= 0 && n >= j.kernel.view.Load().longest(dst) {
		return j.static
	}
	return j.kernel
}

// longest returns the length in bits of the longest prefix that dst has a usable
// unicast or local route by, -1 if there is none.
func (v *view) longest(dst netip.Addr) int {
	best := -1
	for i := range v.fib[family(dst)] {
		t := &v.fib[family(dst)][i]
		for _, n := range t.lengths { // longest first
			if n <= best {
				break
			}
			p, err := dst.Prefix(n)
			if err != nil {
				continue
			}
			for k := range t.routes[p] {
				if r := &t.routes[p][k]; r.kind != unix.RTN_UNICAST || r.unsure || r.alive(v, 0) {
					best = max(best, n)
				}
			}
		}
	}
	return best
}

// PortsMatter implements Network.
func (j *Joined) PortsMatter(dst netip.Addr) bool { return j.kernel.PortsMatter(dst) }

// Neighbor implements Network.
func (j *Joined) Neighbor(link int, addr netip.Addr) (mac [6]byte, ok bool) {
	return j.of(link).Neighbor(link, addr)
}

// Resolve implements Network.
func (j *Joined) Resolve(link int, addr netip.Addr) { j.of(link).Resolve(link, addr) }

// Confirm implements Network.
func (j *Joined) Confirm(link int, addr netip.Addr) { j.of(link).Confirm(link, addr) }

// Doubt implements Network.
func (j *Joined) Doubt(link int, addr netip.Addr) { j.of(link).Doubt(link, addr) }

// Gen implements Network.
func (j *Joined) Gen() uint64 { return j.kernel.Gen() + j.static.Gen() }

// Subscribe implements Network.
func (j *Joined) Subscribe(fn func(Change)) (cancel func()) {
	each := func(c Change) {
		j.one.Lock()
		defer j.one.Unlock()
		fn(c)
	}
	a, b := j.kernel.Subscribe(each), j.static.Subscribe(each)
	return func() {
		a()
		b()
	}
}

// Local implements Network.
func (j *Joined) Local(addr netip.Addr) (link int, ok bool) {
	if link, ok = j.static.Local(addr); ok {
		return link, true
	}
	return j.kernel.Local(addr)
}

// Accepts implements Network. Nobody else has an address of ours, of either part.
// Addresses of one part are not reached by links of the other: the kernel's firewall
// would not see the packet.
func (j *Joined) Accepts(link int, f Flow) Verdict {
	if _, ok := j.static.Local(f.Dst); ok != (link >= FirstStatic) && !f.Dst.IsMulticast() {
		return Refused
	}
	if _, ours := j.Local(f.Src); ours && link >= FirstStatic {
		return Refused
	}
	return j.of(link).Accepts(link, f)
}

// Forwards implements Network.
func (j *Joined) Forwards(link int) bool { return j.of(link).Forwards(link) }

// Link implements Network.
func (j *Joined) Link(index int) (Link, bool) { return j.of(index).Link(index) }

// Links implements Network.
func (j *Joined) Links() []Link { return append(j.kernel.Links(), j.static.Links()...) }

// Close implements Network.
func (j *Joined) Close() error { return errors.Join(j.static.Close(), j.kernel.Close()) }
