package routediff

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
)

// generator makes a random scenario.
type generator struct {
	*rand.Rand
	links int
	v6    bool
	lines []string
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
			line += fmt.Sprintf(" mtu %d", []int{1280, 1400, 3000}[g.IntN(3)])
		}
		g.add("%s", line)
	}
	g.addresses()
	g.routes()
	g.tries()
	return g.lines
}

// chance is true n times out of m.
func (g *generator) chance(n, m int) bool { return g.IntN(m) < n }

func (g *generator) add(format string, args ...any) {
	g.lines = append(g.lines, fmt.Sprintf(format, args...))
}

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

// addresses gives each link one, and some more.
func (g *generator) addresses() {
	subnet := 24
	if g.v6 {
		subnet = 64
	}
	for i := range g.links {
		g.add("ip addr add %v/%d dev veth%d%s", g.neighbor(i, 1), subnet, i, g.nodad())
	}
}

func (g *generator) nodad() string {
	if g.v6 {
		return " nodad"
	}
	return ""
}

// prefix is one of those that nest over the remote destinations.
func (g *generator) prefix() netip.Prefix {
	lengths := []int{0, 8, 22, 24, 32}
	if g.v6 {
		lengths = []int{0, 16, 62, 64, 128}
	}
	p, _ := g.remote(g.IntN(remotes)).Prefix(lengths[g.IntN(len(lengths))])
	return p
}

// hop is a gateway on a link, or the link alone.
func (g *generator) hop() string {
	i := g.IntN(g.links)
	if g.chance(1, 8) {
		return fmt.Sprintf("dev veth%d", i)
	}
	return fmt.Sprintf("via %v dev veth%d", g.neighbor(i, 2+g.IntN(hosts)), i)
}

func (g *generator) routes() {
	for range 2 + g.IntN(8) {
		line := "ip route add"
		if g.v6 {
			line = "ip -6 route add"
		}
		if g.chance(1, 8) {
			g.add("%s %s %v", line, []string{"unreachable", "prohibit", "blackhole", "throw"}[g.IntN(4)], g.prefix())
			continue
		}
		line += fmt.Sprintf(" %v %s", g.prefix(), g.hop())
		if g.chance(1, 3) {
			line += fmt.Sprintf(" metric %d", 1+g.IntN(3))
		}
		g.add("%s", line)
	}
}

// tries are a few flows to destinations beyond the links, and on them.
func (g *generator) tries() {
	for i := range 8 {
		to := g.remote(g.IntN(remotes))
		if g.chance(1, 6) {
			to = g.neighbor(g.IntN(g.links), 1+g.IntN(1+hosts))
		}
		line := fmt.Sprintf("try tcp-dial to %v port %d", netip.AddrPortFrom(to, uint16(80+g.IntN(4))), 2000+i)
		if g.chance(1, 4) {
			line += fmt.Sprintf(" from %v", g.neighbor(g.IntN(g.links), 1))
		}
		g.add("%s", line)
	}
}
