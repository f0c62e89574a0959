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

// hopLimits reads the hop limits of packets whose route names none. For IPv4 it is
// the host's (Documentation/networking/ip-sysctl.rst, ip_default_ttl), for IPv6
// the link's, which routers may set (hop_limit; RFC 4861, section 6.3.4). The
// kernel announces no change, so what was read is not kept for long. A destination that
// is in use keeps its hop limit until routes change.
type hopLimits struct {
	root [2]*os.Root // /proc/sys/net/ipv4 and ipv6 of the namespace; nil: it has none

	mu    sync.Mutex
	since time.Time
	read  map[string]int // by file
}

// open opens the directories, inside the namespace.
func (h *hopLimits) open() {
	for f, name := range [2]string{inet4: "/proc/sys/net/ipv4", inet6: "/proc/sys/net/ipv6"} {
		h.root[f], _ = os.OpenRoot(name)
	}
}

func (h *hopLimits) close() {
	for _, r := range h.root {
		if r != nil {
			_ = r.Close()
		}
	}
}

// to returns the hop limit of packets to dst by a link, 0 where it is
// defaultHopLimit.
func (h *hopLimits) to(dst netip.Addr, link string) int {
	root, name := h.root[family(dst)], "ip_default_ttl"
	if dst.Is6() {
		name = "conf/" + link + "/hop_limit"
	}
	if root == nil {
		return 0
	}
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.read == nil || now.Sub(h.since) >= cacheTime {
		h.read, h.since = map[string]int{}, now
	}
	n, ok := h.read[name]
	if !ok {
		if text, err := root.ReadFile(name); err == nil {
			_, _ = fmt.Sscan(string(text), &n)
		}
		if n == defaultHopLimit {
			n = 0
		}
		h.read[name] = n
	}
	return n
}
