package control

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/ip"
)

// sourceRules are what the kernel believes of the sources of a link's packets
// (Documentation/networking/ip-sysctl.rst).
type sourceRules struct {
	filter int  // rp_filter: 0 none, 1 strict, 2 loose
	local  bool // accept_local

	forward bool // forwarding; where it is set for IPv4 it is taken to be for IPv6
}

// sourceFiles reads sourceRules: each link's once for a view, and again when they
// are old, since the kernel does not announce a change of accept_local.
type sourceFiles struct {
	root *os.Root // /proc/sys/net/ipv4/conf of the namespace; nil: it has none

	mu    sync.Mutex
	of    *view
	since time.Time
	read  map[int]sourceRules
}

// open opens the directory, inside the namespace.
func (s *sourceFiles) open() { s.root, _ = os.OpenRoot("/proc/sys/net/ipv4/conf") }

func (s *sourceFiles) close() {
	if s.root != nil {
		_ = s.root.Close()
	}
}

// rules returns those of a link of v.
func (s *sourceFiles) rules(v *view, link int) sourceRules {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); s.of != v || now.Sub(s.since) >= settingsGap {
		s.of, s.since, s.read = v, now, map[int]sourceRules{}
	}
	r, ok := s.read[link]
	if !ok {
		if l := v.links[link]; l != nil {
			r.filter = max(s.number("all", "rp_filter"), s.number(l.Name, "rp_filter"))
			r.local = s.number("all", "accept_local") != 0 || s.number(l.Name, "accept_local") != 0
			r.forward = s.number(l.Name, "forwarding") != 0
		}
		s.read[link] = r
	}
	return r
}

// number reads a setting of a link, 0 if there is none.
func (s *sourceFiles) number(link, name string) (n int) {
	if s.root == nil {
		return 0
	}
	text, err := s.root.ReadFile(link + "/" + name)
	if err == nil {
		_, _ = fmt.Sscan(string(text), &n)
	}
	return n
}

// Accepts implements Network, as Linux's fib_validate_source, which looks at IPv4 only.
// Where a rule comes before the local table, the kernel also says whether the packet is
// this host's at all.
func (k *Kernel) Accepts(link int, f Flow) Verdict {
	v, family := k.view.Load(), family(f.Src)
	if v.localLate[family] {
		return k.ask(v, link, f)
	}
	if family == inet6 {
		return Accepted
	}
	rules := k.sources.rules(v, link)
	if _, ours := v.local(f.Src); ours && !rules.local {
		return Refused
	}
	if rules.filter == 0 {
		return Accepted
	}
	r, err := v.route(Flow{Dst: f.Src}, 0)
	away := err == nil && r.Link != link && (rules.filter == 1 || !v.hasInet4(link))
	switch {
	case err == errAsk, away && v.waysBack(link):
		return k.ask(v, link, f)
	case err != nil, away:
		return Refused
	}
	return verdictOf(r.Local || !r.Broadcast && !r.Multicast)
}

// ask has the kernel judge a packet, or returns what it said of its like.
func (k *Kernel) ask(v *view, link int, f Flow) Verdict {
	family := family(f.Src)
	f.TOS &^= 3
	if f.Proto != ip.ProtoTCP && f.Proto != ip.ProtoUDP && f.Proto != ip.ProtoICMP && f.Proto != ip.ProtoICMPv6 {
		f.Proto = 0 // RTM_GETROUTE knows no others
	}
	if !v.byFlow[family] {
		f.SrcPort, f.DstPort = 0, 0
	}
	verdict := k.verdicts.get(v, newPacketIn(link, f), func() Verdict {
		r, err := k.routes.askInput(link, f)
		return v.judge(family, r.kind, err)
	})
	if verdict == Accepted && v.byFlow[family] {
		return AcceptedFlow
	}
	return verdict
}

// judge is the verdict on a packet to which the kernel gives a route of a kind, or an
// error.
func (v *view) judge(family, kind int, err error) Verdict {
	switch err {
	case unix.EINVAL, unix.EXDEV: // for its source, or a blackhole
		return Refused
	case nil:
		if kind == unix.RTN_UNICAST && v.localLate[family] {
			return Elsewhere
		}
	case unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES:
		if v.localLate[family] {
			return Elsewhere
		}
	}
	return Accepted
}

// hasInet4 reports whether a link has an IPv4 address. Without one a loose check is as
// strict as any (no_addr in __fib_validate_source).
func (v *view) hasInet4(link int) bool {
	l := v.links[link]
	return l != nil && slices.ContainsFunc(l.Addrs, func(p netip.Prefix) bool { return p.Addr().Is4() })
}

// waysBack reports whether the way to an IPv4 source may be by a link although the
// snapshot names another: there are several ways, or the link is a VRF's.
func (v *view) waysBack(link int) bool {
	l := v.links[link]
	return v.partial[inet4] || l == nil || l.Master != 0
}

// Accepts implements Network: without a kernel nobody has another's address.
func (s *Static) Accepts(_ int, f Flow) Verdict {
	_, ours := s.Local(f.Src)
	return verdictOf(!ours)
}

// Forwards implements Network.
func (k *Kernel) Forwards(link int) bool { return k.sources.rules(k.view.Load(), link).forward }

// Forwards implements Network: there is no kernel to do it.
func (s *Static) Forwards(int) bool { return false }

// askInput asks the kernel about a packet that came by a link. The errors for
// the source are EINVAL and EXDEV (rp_filter).
func (a *asker) askInput(link int, f Flow) (fibRoute, error) {
	return a.exchange(inputQuestion(link, f))
}
