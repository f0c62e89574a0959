package control

import (
	"fmt"
	"os"
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

// Accepts implements Network, as Linux's fib_validate_source. That looks at
// IPv4 only.
func (k *Kernel) Accepts(link int, f Flow) Verdict {
	src := f.Src
	if !src.Is4() {
		return Accepted
	}
	v := k.view.Load()
	rules := k.sources.rules(v, link)
	if _, ours := v.local(src); ours && !rules.local {
		return Refused
	}
	if rules.filter == 0 {
		return Accepted
	}
	r, err := v.route(Flow{Dst: src}, 0)
	switch {
	case err == errAsk, err == nil && rules.filter == 1 && r.Link != link && v.waysBack(link):
		f.TOS &^= 3
		if f.Proto != ip.ProtoTCP && f.Proto != ip.ProtoUDP && f.Proto != ip.ProtoICMP {
			f.Proto = 0 // RTM_GETROUTE knows no others
		}
		if !v.byFlow[inet4] {
			f.SrcPort, f.DstPort = 0, 0
		}
		verdict := k.verdicts.get(v, newPacketIn(link, f), func() bool {
			err := k.routes.askInput(link, f)
			return err != unix.EINVAL && err != unix.EXDEV
		})
		if verdict == Accepted && v.byFlow[inet4] {
			return AcceptedFlow
		}
		return verdict
	case err != nil, rules.filter == 1 && r.Link != link:
		return Refused
	}
	return verdictOf(r.Local || !r.Broadcast && !r.Multicast)
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
func (a *asker) askInput(link int, f Flow) error {
	_, err := a.exchange(inputQuestion(link, f))
	return err
}
