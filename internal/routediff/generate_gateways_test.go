package routediff

import (
	"fmt"
	"net/netip"
)

// defaults are default routes: at times several of one metric, of which the kernel
// takes one whose gateway answers.
func (g *generator) defaults() {
	switch n := g.IntN(12); {
	case n < 3:
		g.ip("route add default", g.hop(), "table", g.table())
	case n < 6:
		g.several()
	}
}

// several adds default routes to one table. IPv4 takes each time another unless it
// knows of one that its gateway answers (fib_select_default), so the last one's does.
func (g *generator) several() {
	table := g.table()
	n := 2 + g.IntN(3)
	for i := range n {
		hop, via, link := g.gateway()
		words := []string{"route append default", hop, "table", table}
		if g.v6 && g.chance(1, 2) {
			words = append(words, "pref", g.word("low", "medium", "high"))
		}
		if g.v6 && g.chance(1, 3) {
			words = append(words, "metric", fmt.Sprint(g.one(1, 2)))
		}
		g.ip(words...)
		if !via.IsValid() {
			continue
		}
		state := "reachable"
		if i < n-1 && g.chance(1, 2) {
			state = "failed"
		}
		g.known = append(g.known, acquaintance{via, link, state})
	}
}

// acquaintance is what the host knows of a gateway.
type acquaintance struct {
	netip.Addr
	link  int
	state string
}

// gateways tells the host what it knows of those of default routes.
func (g *generator) gateways() {
	for _, a := range g.known {
		m := mac(a.link, a.Addr)
		g.add("ip neigh replace %v lladdr %02x:%02x:%02x:%02x:%02x:%02x dev veth%d nud %s",
			a.Addr, m[0], m[1], m[2], m[3], m[4], m[5], a.link, a.state)
	}
}

// routers advertise themselves on links, with what routers may say.
func (g *generator) routers() {
	if !g.v6 || g.down || !g.chance(1, 3) {
		return
	}
	for range 1 + g.IntN(3) {
		line := fmt.Sprintf("router %s %v", g.link(), linkLocal(2+g.IntN(hosts)))
		if g.chance(1, 2) {
			line += " pref " + g.word("low", "high")
		}
		if g.chance(1, 3) {
			line += fmt.Sprintf(" hops %d", g.one(9, 200))
		}
		if g.chance(1, 4) {
			line += fmt.Sprintf(" mtu %d", g.one(1280, 1300))
		}
		if g.chance(1, 3) {
			p, _ := neighbor6(g.one(0, 1, 9), 0).Prefix(64)
			line += fmt.Sprintf(" prefix %v", p)
		}
		if g.chance(1, 2) {
			line += fmt.Sprintf(" route %v routepref %s", g.prefix(), g.word("low", "medium", "high"))
		}
		g.add("%s", line)
	}
}

// labelled is a prefix that RFC 6724's table is to say more of: of addresses of ours,
// of destinations.
func (g *generator) labelled() netip.Prefix {
	if g.chance(1, 2) {
		p, _ := neighbor6(g.IntN(g.links), 1).Prefix(64)
		return p
	}
	return g.prefix()
}
