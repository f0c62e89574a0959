package control

import (
	"fmt"
	"net/netip"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// sourceRules are what the kernel believes of the sources of a link's packets
// (Documentation/networking/ip-sysctl.rst).
type sourceRules struct {
	filter int  // rp_filter: 0 none, 1 strict, 2 loose
	local  bool // accept_local
}

// sourceFiles reads sourceRules, one view's for each link once.
type sourceFiles struct {
	root *os.Root // /proc/sys/net/ipv4/conf of the namespace; nil: it has none

	mu   sync.Mutex
	of   *view
	read map[int]sourceRules
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
	if s.of != v {
		s.of, s.read = v, map[int]sourceRules{}
	}
	r, ok := s.read[link]
	if !ok {
		if l := v.links[link]; l != nil {
			r.filter = max(s.number("all", "rp_filter"), s.number(l.Name, "rp_filter"))
			r.local = s.number("all", "accept_local") != 0 || s.number(l.Name, "accept_local") != 0
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
func (k *Kernel) Accepts(link int, src, dst netip.Addr) bool {
	if !src.Is4() {
		return true
	}
	v := k.view.Load()
	rules := k.sources.rules(v, link)
	if _, ours := v.local(src); ours && !rules.local {
		return false
	}
	if rules.filter == 0 {
		return true
	}
	r, err := v.route(Flow{Dst: src}, 0)
	switch {
	case err == errAsk, err == nil && rules.filter == 1 && r.Link != link:
		// There are other rules, or several ways back.
		err = k.routes.askInput(link, src, dst)
		return err != unix.EINVAL && err != unix.EXDEV
	case err != nil:
		return false
	}
	return r.Local || !r.Broadcast && !r.Multicast
}

// Accepts implements Network: without a kernel nobody has another's address.
func (s *Static) Accepts(_ int, src, _ netip.Addr) bool {
	_, ours := s.Local(src)
	return !ours
}

// askInput asks the kernel about a packet that came by a link. The errors for
// the source are EINVAL and EXDEV (rp_filter).
func (a *asker) askInput(link int, src, dst netip.Addr) error {
	_, err := a.exchange(inputQuestion(link, src, dst))
	return err
}
