package routediff

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
)

// generator makes a random scenario.
type generator struct {
	*rand.Rand
	links    int
	v6       bool
	nexthops int // of the family's objects, the number
	lines    []string
	known    []acquaintance // of gateways
	ruled    bool           // there are policy rules
	down     bool           // a link is
	// portsHashed says that ports decide between equal paths: then both hosts need the
	// same ones.
	portsHashed bool
}

// generate makes the scenario of a seed. v6 is its family: most of what the kernel
// decides with is separate for each.
func generate(seed uint64, v6 bool) []string {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 13)), v6: v6}
	g.links = 2 + g.IntN(3)
	for i := range g.links {
		line := "link"
		if i == 0 || g.chance(2, 3) { // one at least
			line += " accelerated"
		}
		if g.chance(1, 3) {
			line += fmt.Sprintf(" mtu %d", g.one(1280, 1400, 3000))
		}
		g.add("%s", line)
	}
	g.ruled = g.chance(2, 3)
	g.settings()
	g.addresses()
	g.nextHops()
	g.routes()
	g.gateways()
	g.routers()
	g.rules()
	g.tries()
	return g.lines
}

// chance is true n times out of m.
func (g *generator) chance(n, m int) bool { return g.IntN(m) < n }

// one is one of the numbers.
func (g *generator) one(of ...int) int { return of[g.IntN(len(of))] }

// word is one of the words.
func (g *generator) word(of ...string) string { return of[g.IntN(len(of))] }

func (g *generator) add(format string, args ...any) {
	g.lines = append(g.lines, fmt.Sprintf(format, args...))
}

// ip adds a statement of ip(8) for the family.
func (g *generator) ip(words ...string) {
	line := "ip"
	if g.v6 {
		line += " -6"
	}
	g.add("%s %s", line, strings.Join(words, " "))
}

func (g *generator) link() string { return fmt.Sprintf("veth%d", g.IntN(g.links)) }

// neighbor is a host on one of the links; 1 is ourselves.
func (g *generator) neighbor(net, host int) netip.Addr {
	if g.v6 {
		return neighbor6(net, host)
	}
	return neighbor4(net, host)
}

func (g *generator) remote(i int) netip.Addr {
	if g.v6 {
		return remote6(i)
	}
	return remote4(i)
}

// table is one of those that there are: main, or one that rules lead to.
func (g *generator) table() string {
	if !g.ruled {
		return "main"
	}
	return g.word("main", "main", "main", "100", "101")
}

// tries are a few flows to destinations beyond the links, and on them.
func (g *generator) tries() {
	for i := range 10 {
		kind := g.word("tcp-dial", "tcp-open", "tcp-accept", "tcp-serve", "udp-dial", "udp-to")
		to := g.destination(kind)
		accepts := kind == "tcp-accept" || kind == "tcp-serve"
		port := 2000 + i
		if !g.portsHashed && strings.HasSuffix(kind, "dial") && g.chance(1, 4) {
			port = 0
		}
		line := fmt.Sprintf("try %s to %v port %d", kind, netip.AddrPortFrom(to, uint16(80+g.IntN(4))), port)
		switch {
		case accepts:
			i := g.IntN(g.links)
			line += fmt.Sprintf(" from %v by veth%d", g.neighbor(i, 1), i)
			if g.chance(1, 4) {
				line = strings.Replace(line, fmt.Sprintf("by veth%d", i), "by "+g.link(), 1)
			}
		case g.chance(1, 3):
			line += fmt.Sprintf(" from %v", g.neighbor(g.IntN(g.links), 1))
		}
		if g.chance(1, 4) {
			line += fmt.Sprintf(" tos %d", g.one(4, 8, 16, 32))
		}
		if g.chance(1, 12) {
			line += " mark 1"
		}
		if !accepts && g.chance(1, 12) {
			line += " device " + g.link()
		}
		if strings.HasPrefix(kind, "udp") && g.chance(1, 4) {
			line += fmt.Sprintf(" size %d", g.one(100, 1300, 1440))
		}
		g.add("%s", line)
	}
}

// destination is beyond the links or on one of them, a link-local address, one of our
// own, or a group's.
func (g *generator) destination(kind string) netip.Addr {
	switch n := g.IntN(24); {
	case n < 4:
		return g.neighbor(g.IntN(g.links), 1+g.IntN(1+hosts))
	case n == 4 && g.v6 && (kind == "tcp-dial" || strings.HasPrefix(kind, "udp")):
		return linkLocal(2 + g.IntN(hosts)).WithZone(g.link())
	case n == 5 && strings.HasPrefix(kind, "udp"):
		return g.group()
	}
	return g.remote(g.IntN(remotes))
}

// group is a multicast or broadcast address.
func (g *generator) group() netip.Addr {
	var a netip.Addr
	switch {
	case !g.v6:
		a = netip.MustParseAddr(g.word("224.0.0.99", "239.1.2.3", "255.255.255.255", "10.0.0.255", "10.0.1.255"))
	case g.chance(1, 2):
		a = netip.MustParseAddr("ff05::99")
	default:
		a = netip.MustParseAddr("ff02::99").WithZone(g.link())
	}
	return a
}
