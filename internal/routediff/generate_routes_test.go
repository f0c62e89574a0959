package routediff

import (
	"fmt"
	"net/netip"
	"strings"
)

// settings are those that decide about routes.
func (g *generator) settings() {
	// Policy 3 of IPv4 is left out: the kernel hashes otherwise for RTM_GETROUTE
	// (fib_multipath_custom_hash_skb) than for its sockets (_fl4).
	family, policies := "ipv4", 3
	if g.v6 {
		family, policies = "ipv6", 4
	}
	if g.chance(1, 2) {
		policy := g.IntN(policies)
		g.portsHashed = policy > 0
		g.add("sysctl net.%s.fib_multipath_hash_policy=%d", family, policy)
	}
	if g.v6 && g.chance(1, 6) {
		g.add("sysctl net.%s.fib_multipath_hash_fields=%d", family, g.one(0x1, 0x2, 0x7, 0x10, 0x20, 0x37))
	}
	if g.chance(1, 4) {
		g.add("sysctl net.ipv4.nexthop_compat_mode=%d", g.IntN(2))
	}
	if g.chance(1, 4) {
		g.add("sysctl net.%s.conf.%s.ignore_routes_with_linkdown=1", family, g.word("all", g.link()))
	}
	if !g.v6 && g.chance(1, 6) {
		g.add("sysctl net.ipv4.conf.%s.accept_local=1", g.word("all", g.link()))
	}
	if g.v6 && g.chance(1, 3) {
		g.add("sysctl net.ipv6.conf.%s.use_tempaddr=%d", g.link(), 1+g.IntN(2))
	}
	if g.v6 && g.chance(1, 4) {
		for range 1 + g.IntN(3) {
			g.add("ip addrlabel add prefix %s label %d", g.labelled(), g.one(1, 5, 99))
		}
	}
	if g.v6 && g.chance(1, 6) {
		g.add("sysctl net.ipv6.conf.%s.mtu=1280", g.link())
	}
	if !g.v6 && g.chance(1, 3) {
		g.add("sysctl net.ipv4.conf.%s.rp_filter=%d", g.word("all", g.link()), g.IntN(3))
	}
	if g.chance(1, 4) {
		if g.v6 {
			g.add("sysctl net.ipv6.conf.%s.hop_limit=%d", g.link(), g.one(7, 33))
		} else {
			g.add("sysctl net.ipv4.ip_default_ttl=%d", g.one(7, 33, 128))
		}
	}
}

// addresses gives each link one, and some more.
func (g *generator) addresses() {
	subnet, host := 24, 32
	if g.v6 {
		subnet, host = 64, 128
	}
	add := func(net, h, bits, link int, more string) {
		if g.v6 {
			more += " nodad"
		}
		g.ip("addr add", fmt.Sprintf("%v/%d dev veth%d%s", g.neighbor(net, h), bits, link, more))
	}
	for i := range g.links {
		if !g.chance(1, 10) {
			add(i, 1, subnet, i, "")
		}
	}
	for range g.IntN(4) {
		// Of its own subnet, of another's, or of the host alone.
		bits, more := g.one(subnet, subnet, host), ""
		if g.v6 {
			more = g.word("", "", "", " preferred_lft 0", " mngtmpaddr", " home")
		}
		if !g.v6 && g.chance(1, 6) {
			more = " scope " + g.word("link", "host")
		}
		add(g.IntN(g.links), g.one(1, 9, 10), bits, g.IntN(g.links), more)
	}
	if g.chance(1, 4) {
		g.ip("addr add", fmt.Sprintf("%v/%d dev lo", g.neighbor(7, 1), host))
	}
}

// prefix is one of those that nest over the remote destinations.
func (g *generator) prefix() netip.Prefix {
	lengths := []int{4, 8, 22, 24, 32}
	if g.v6 {
		lengths = []int{0, 16, 62, 64, 128}
	}
	p, _ := g.remote(g.IntN(remotes)).Prefix(lengths[g.IntN(len(lengths))])
	return p
}

// hop is a gateway on a link, or the link alone.
func (g *generator) hop() string {
	h, _, _ := g.gateway()
	return h
}

// gateway is a hop, its address, which is invalid if it is the link alone, and its link.
func (g *generator) gateway() (hop string, via netip.Addr, link int) {
	i := g.IntN(g.links)
	h := 2 + g.IntN(hosts)
	switch g.IntN(12) {
	case 0:
		return fmt.Sprintf("dev veth%d", i), via, i
	case 1:
		via = linkLocal(h)
		if g.v6 {
			return fmt.Sprintf("via %v dev veth%d", via, i), via, i
		}
		return fmt.Sprintf("via inet6 %v dev veth%d", via, i), via, i
	case 2:
		via = g.neighbor(g.IntN(4), h)
		return fmt.Sprintf("via %v dev veth%d onlink", via, i), via, i
	}
	via = g.neighbor(i, h)
	return fmt.Sprintf("via %v dev veth%d", via, i), via, i
}

// nextHops are nexthop objects: single ones, and groups of them.
func (g *generator) nextHops() {
	if !g.chance(1, 3) {
		return
	}
	g.nexthops = 3 + g.IntN(3)
	for id := 1; id <= g.nexthops; id++ {
		if g.chance(1, 8) {
			g.ip("nexthop add id", fmt.Sprint(id), "blackhole")
			continue
		}
		g.ip("nexthop add id", fmt.Sprint(id), g.hop())
	}
	for id := 10; id < 12; id++ {
		var parts []string
		for i := 1; i <= g.nexthops; i++ {
			if g.chance(1, 2) {
				parts = append(parts, fmt.Sprintf("%d,%d", i, 1+g.IntN(5)))
			}
		}
		if len(parts) > 0 {
			g.ip("nexthop add id", fmt.Sprint(id), "group", strings.Join(parts, "/"))
		}
	}
}

// changeNextHops replaces and removes some when routes use them.
func (g *generator) changeNextHops() {
	if g.nexthops == 0 {
		return
	}
	if g.chance(1, 2) {
		g.ip("nexthop replace id", fmt.Sprint(1+g.IntN(g.nexthops)), g.hop())
	}
	if g.chance(1, 3) {
		g.ip("nexthop del id", fmt.Sprint(g.one(1, 2, 3, 10, 11)))
	}
}

func (g *generator) routes() {
	g.defaults()
	if g.chance(3, 4) { // most destinations are somewhere
		p, _ := g.remote(0).Prefix(6)
		g.ip("route add", p.String(), g.hop(), "metric 9 table main")
	}
	for range 3 + g.IntN(8) {
		if g.chance(1, 8) {
			g.ip("route add", g.word("unreachable", "prohibit", "blackhole", "throw"), g.prefix().String(), "table", g.table())
			continue
		}
		verb := "route " + g.word("add", "add", "add", "append", "replace")
		words := []string{verb, g.prefix().String()}
		if g.chance(1, 8) {
			words = append(words, "tos", fmt.Sprint(g.one(4, 8, 16)))
		}
		if g.chance(1, 3) {
			words = append(words, "metric", fmt.Sprint(1+g.IntN(3)))
		}
		words = append(words, "table", g.table())
		words = append(words, g.metrics()...)
		if g.chance(1, 6) {
			words = append(words, "src", g.neighbor(g.IntN(g.links), g.one(1, 1, 9)).String())
		}
		switch {
		case g.nexthops > 0 && g.chance(1, 2):
			words = append(words, "nhid", fmt.Sprint(g.one(1, 2, 3, 10, 11)))
		case g.chance(1, 4):
			for range 2 + g.IntN(2) {
				words = append(words, "nexthop", g.hop(), "weight", fmt.Sprint(1+g.IntN(4)))
			}
		default:
			words = append(words, g.hop())
		}
		g.ip(words...)
	}
	g.changeNextHops()
	for range g.IntN(2) {
		g.ip("route del", g.prefix().String())
	}
	switch n := g.IntN(10); {
	case len(g.known) > 0: // a link would take the gateways that answer along
	case n == 0:
		g.down = true
		g.add("peer ip link set %s down", g.link())
	case n == 1:
		g.down = true
		g.add("ip link set %s down", g.link())
	}
}

// metrics are what a route says of its packets (ip-route(8)).
func (g *generator) metrics() (words []string) {
	if !g.chance(1, 3) {
		return nil
	}
	mtu := 1280 // a link's is no less: packets that a link cannot carry are no route's business
	if !g.v6 {
		mtu = g.one(700, 1200, 1280)
	}
	all := [][]string{
		{"mtu", fmt.Sprint(mtu)},
		{"mtu lock", fmt.Sprint(mtu)},
		{"advmss", fmt.Sprint(g.one(500, 1000, 1400))},
		{"hoplimit", fmt.Sprint(g.one(1, 9, 200))},
		{"window", fmt.Sprint(g.one(2000, 10000, 30000))},
		{"initrwnd", fmt.Sprint(g.one(1, 3, 8))},
		{"initcwnd", fmt.Sprint(g.one(1, 3, 20))},
		{"features", "ecn"},
		{"quickack", "1"},
		{"congctl", g.word("reno", "cubic", "bbr")},
		{"rto_min", "150ms"},
	}
	for range 1 + g.IntN(3) {
		m := all[g.IntN(len(all))]
		if !strings.Contains(strings.Join(words, " "), strings.Fields(m[0])[0]) {
			words = append(words, m...)
		}
	}
	return words
}

// rules are policy rules.
func (g *generator) rules() {
	if !g.ruled {
		return
	}
	for range 1 + g.IntN(4) {
		words := []string{"rule add pref", fmt.Sprint(10 + g.IntN(90))}
		for range 1 + g.IntN(2) {
			words = append(words, g.selector()...)
		}
		switch g.IntN(8) {
		case 0:
			words = append(words, g.word("prohibit", "blackhole", "unreachable"))
		case 1:
			words = append(words, "goto", fmt.Sprint(g.one(50, 32766)))
		default:
			words = append(words, "lookup", g.word("100", "101"))
		}
		if g.chance(1, 10) {
			words = append(words, "suppress_prefixlength", fmt.Sprint(g.one(0, 8, 24)))
		}
		g.ip(words...)
	}
	if g.chance(1, 10) { // the local table, after others
		g.ip("rule add pref 200 lookup local")
		g.ip("rule del pref 0")
	}
}

// subnet is the n-th link's.
func (g *generator) subnet(n int) netip.Prefix {
	bits := 24
	if g.v6 {
		bits = 64
	}
	p, _ := g.neighbor(n, 1).Prefix(bits)
	return p
}

// selector is what a rule asks for.
func (g *generator) selector() []string {
	all := [][]string{
		{"from", g.neighbor(g.IntN(g.links), 1).String()},
		{"from", g.subnet(g.IntN(g.links)).String()},
		{"to", g.prefix().String()},
		{"ipproto", g.word("tcp", "udp")},
		{"dport", g.word("80", "81", "80-82", "443")},
		{"sport", g.word("2000", "2001-2004", "2005-3000", "1024-65534")},
		{"ipproto udp dport", "82"},
		{"tos", g.word("0x10", "0x8", "0x4", "0x20")},
		{"fwmark", g.word("1", "0", "0/1")},
		{"uidrange", g.word("0-0", "1-5", "0-1000")},
		{"iif", g.word("lo", g.link())},
		{"oif", g.link()},
	}
	s := all[g.IntN(len(all))]
	if g.chance(1, 8) {
		return append([]string{"not"}, s...)
	}
	return s
}
