package control

import (
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"
)

// defaultHopLimit is what a Route of HopLimit 0 means.
const defaultHopLimit = 64

// linkSettings reads what packets have from their host or link where their route says
// nothing: hop limits, for IPv4 the host's (Documentation/networking/ip-sysctl.rst,
// ip_default_ttl), for IPv6 the link's (hop_limit), and the MTU of IPv6, which may be less
// than the link's. Routers may set both (RFC 4861, section 6.3.4). The kernel announces no
// change, so what was read is not kept for long. A destination that is in use keeps
// what it has until routes change.
type linkSettings struct {
	root [2]*os.Root // /proc/sys/net/ipv4 and ipv6 of the namespace; nil: it has none

	mu    sync.Mutex
	since time.Time
	read  map[settingFile]int
}

// settingFile names a setting: of a link, or of the host if that is empty.
type settingFile struct{ link, name string }

// open opens the directories, inside the namespace.
func (s *linkSettings) open() {
	for f, name := range [2]string{inet4: "/proc/sys/net/ipv4", inet6: "/proc/sys/net/ipv6"} {
		s.root[f], _ = os.OpenRoot(name)
	}
}

func (s *linkSettings) close() {
	for _, r := range s.root {
		if r != nil {
			_ = r.Close()
		}
	}
}

// hopLimit returns the hop limit of packets to dst by a link, 0 where it is
// defaultHopLimit.
func (s *linkSettings) hopLimit(dst netip.Addr, link string) int {
	file := settingFile{name: "ip_default_ttl"}
	if dst.Is6() {
		file = settingFile{link, "hop_limit"}
	}
	if n := s.get(family(dst), file); n != defaultHopLimit {
		return n
	}
	return 0
}

// mtu6 returns the largest IPv6 packet of a link, 0 where the kernel does not say.
func (s *linkSettings) mtu6(link string) int { return s.get(inet6, settingFile{link, "mtu"}) }

// get returns a setting, 0 if there is none.
func (s *linkSettings) get(f int, file settingFile) (n int) {
	if s.root[f] == nil {
		return 0
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.read == nil || now.Sub(s.since) >= cacheTime {
		s.read, s.since = map[settingFile]int{}, now
	}
	n, ok := s.read[file]
	if !ok {
		name := file.name
		if file.link != "" {
			name = "conf/" + file.link + "/" + name
		}
		if text, err := s.root[f].ReadFile(name); err == nil {
			_, _ = fmt.Sscan(string(text), &n)
		}
		s.read[file] = n
	}
	return n
}
