package engine_test

import "fmt"

// changeKind is a change that do makes. do returns what mends it, nil if nothing is
// to be mended.
type changeKind struct {
	name string
	do   func(*changes) func()
}

// reroute replaces A's route to R's networks.
func reroute(w *changes, v6 bool, format string, args ...any) func() {
	w.do(w.u.A, "%s route replace %s", ip(v6), fmt.Sprintf(format, args...))
	return func() { w.routes(v6) }
}

var changeKinds = []changeKind{
	{"route by one link", func(w *changes) func() {
		i, v6 := w.link(), w.v6()
		w.do(w.u.A, "%s route flush %s", ip(v6), network(v6))
		return reroute(w, v6, "%s via %s dev %s", network(v6), addrOf(w.u.r[i], v6), w.u.a[i].If)
	}},
	{"route with weights", func(w *changes) func() {
		v6 := w.v6()
		return reroute(w, v6, "%s nexthop via %s dev %s weight %d nexthop via %s dev %s weight %d", network(v6),
			addrOf(w.u.r[0], v6), w.u.a[0].If, 1+w.r.IntN(5), addrOf(w.u.r[1], v6), w.u.a[1].If, 1+w.r.IntN(5))
	}},
	{"route deleted", func(w *changes) func() {
		v6 := w.v6()
		w.do(w.u.A, "%s route flush %s", ip(v6), network(v6))
		return func() { w.routes(v6) }
	}},
	{"route refused", func(w *changes) func() {
		v6, kind := w.v6(), []string{"unreachable", "prohibit", "blackhole"}[w.r.IntN(3)]
		w.do(w.u.A, "%s route flush %s", ip(v6), network(v6))
		return reroute(w, v6, "%s %s", kind, network(v6))
	}},
	{"route with metrics", func(w *changes) func() {
		i, v6 := w.link(), w.v6()
		w.do(w.u.A, "%s route flush %s", ip(v6), network(v6))
		return reroute(w, v6, "%s via %s dev %s %s", network(v6), addrOf(w.u.r[i], v6), w.u.a[i].If,
			[]string{"mtu 1300", "mtu lock 1400", "advmss 1000", "hoplimit 9", "window 20000", "initcwnd 20", "congctl reno", "rto_min 20ms"}[w.r.IntN(8)])
	}},
	{"route in R by one link", func(w *changes) func() {
		i, v6 := w.link(), w.v6()
		w.do(w.u.R, "%s route flush %s", ip(v6), service(v6))
		w.do(w.u.R, "%s route replace %s via %s dev %s", ip(v6), service(v6), addrOf(w.u.a[i], v6), w.u.r[i].If)
		return func() { w.routes(v6) }
	}},
	{"nexthop group", func(w *changes) func() {
		v6 := w.v6()
		for i := range w.u.a {
			w.do(w.u.A, "ip nexthop replace id %d via %s dev %s", i+1, addrOf(w.u.r[i], v6), w.u.a[i].If)
		}
		w.do(w.u.A, "ip nexthop replace id 10 group 1,%d/2", 1+w.r.IntN(3))
		w.do(w.u.A, "%s route flush %s", ip(v6), network(v6))
		reroute(w, v6, "%s nhid 10", network(v6))
		switch i := w.link(); w.r.IntN(4) {
		case 0:
			w.do(w.u.A, "ip nexthop replace id 10 group %d", i+1)
		case 1:
			w.do(w.u.A, "ip nexthop del id %d", i+1)
		case 2:
			w.do(w.u.A, "ip nexthop replace id %d via %s dev %s", i+1, addrOf(w.u.r[1-i], v6), w.u.a[1-i].If)
		}
		return func() {
			w.routes(v6)
			w.do(w.u.A, "ip nexthop flush")
			w.routes(v6)
		}
	}},
	{"rule", func(w *changes) func() {
		i, v6 := w.link(), w.v6()
		w.do(w.u.A, "%s route replace default via %s dev %s table 100", ip(v6), addrOf(w.u.r[i], v6), w.u.a[i].If)
		what := []string{"ipproto udp lookup 100", "ipproto tcp lookup 100", "to " + far(v6, 3).String() + " prohibit",
			"from " + service(v6).String() + " lookup 100", "ipproto udp blackhole", "ipproto tcp unreachable"}[w.r.IntN(6)]
		w.do(w.u.A, "%s rule add pref 50 %s", ip(v6), what)
		return func() {
			w.do(w.u.A, "%s rule del pref 50 %s", ip(v6), what)
			w.do(w.u.A, "%s route flush table 100", ip(v6))
		}
	}},
	{"hash policy", func(w *changes) func() {
		for _, key := range []string{"net.ipv4.fib_multipath_hash_policy", "net.ipv6.fib_multipath_hash_policy"} {
			w.must(w.u.A.Sysctl(key, fmt.Sprint(w.r.IntN(2))))
		}
		return nil
	}},
	{"address of a link", func(w *changes) func() {
		i, v6 := w.link(), w.v6()
		a := addrOf(w.u.a[i], v6)
		w.do(w.u.A, "ip addr del %s/%d dev %s", a, map[bool]int{false: 24, true: 64}[v6], w.u.a[i].If)
		return func() { w.up(i) }
	}},
	{"second address", func(w *changes) func() {
		i, v6 := w.link(), w.v6()
		a := []string{fmt.Sprintf("10.77.%d.9/24", w.u.a[i].MAC[4]), fmt.Sprintf("fd77:0:0:%d::9/64", w.u.a[i].MAC[4])}[map[bool]int{true: 1}[v6]]
		w.do(w.u.A, "ip addr add %s dev %s", a, w.u.a[i].If)
		return func() { w.do(w.u.A, "ip addr del %s dev %s", a, w.u.a[i].If) }
	}},
	{"service address", func(w *changes) func() {
		v6 := w.v6()
		w.do(w.u.A, "ip addr del %s/%d dev lo", service(v6), service(v6).BitLen())
		return func() { w.service(v6) }
	}},
	{"link down", func(w *changes) func() {
		i := w.link()
		l := w.u.a[i]
		if w.r.IntN(3) == 0 {
			l = w.u.r[i] // the carrier goes
		}
		w.try(fmt.Sprintf("%s: %s down", l.NS.Name, l.If), l.SetDown())
		return func() { w.up(i) }
	}},
	{"link deleted", func(w *changes) func() {
		i := w.link()
		if w.gone[0] || w.gone[1] || w.u.engine.Status()[1-i].Err != nil {
			return nil // without any link connections end (ENETDOWN), as ARCHITECTURE.md has it
		}
		w.try("delete "+w.u.a[i].If, w.u.a[i].Delete())
		w.gone[i] = true
		return func() { w.remake(i) }
	}},
	{"MTU of a link", func(w *changes) func() {
		i := w.link()
		w.try("mtu", w.u.a[i].SetMTU([]int{1280, 1400, 1492}[w.r.IntN(3)]))
		return func() { w.up(i) }
	}},
	{"link renamed", func(w *changes) func() {
		i := w.link()
		l := w.u.a[i]
		was, other := l.If, fmt.Sprintf("other%d", i)
		if w.gone[i] || was == other {
			return nil
		}
		w.try("rename "+other, l.Rename(other))
		return func() {
			if !w.gone[i] && l.If != was { // remake gives it its first name
				w.try("rename "+was, l.Rename(was))
			}
		}
	}},
	{"neighbour", func(w *changes) func() {
		i, v6 := w.link(), w.v6()
		l, a := w.u.a[i], addrOf(w.u.r[i], v6)
		switch w.r.IntN(4) {
		case 0:
			w.do(w.u.A, "ip neigh del %s dev %s", a, l.If)
			return nil
		case 1:
			w.do(w.u.A, "ip neigh flush dev %s", l.If)
			return nil
		case 2:
			w.do(w.u.R, "ip neigh flush dev %s", w.u.r[i].If)
			return nil
		}
		mac := "02:00:00:00:99:99" // nobody's
		if w.r.IntN(2) == 0 {
			mac = fmt.Sprintf("02:00:77:00:%02x:02", w.u.r[i].MAC[4])
		}
		w.do(w.u.A, "ip neigh replace %s lladdr %s dev %s nud permanent", a, mac, l.If)
		return func() { w.do(w.u.A, "ip neigh del %s dev %s", a, l.If) }
	}},
	{"queueing discipline", func(w *changes) func() {
		i := w.link()
		w.do(w.u.A, "tc qdisc replace dev %s root %s", w.u.a[i].If,
			[]string{"tbf rate 100mbit burst 64k latency 100ms", "fq_codel", "pfifo limit 1000", "prio"}[w.r.IntN(4)])
		return func() { w.do(w.u.A, "tc qdisc del dev %s root", w.u.a[i].If) }
	}},
	{"queues", func(w *changes) func() {
		i, n := w.link(), 1+w.r.IntN(4)
		w.try(fmt.Sprintf("%d queues here", n), w.u.a[i].SetQueues(n))
		w.try(fmt.Sprintf("%d queues there", n), w.u.r[i].SetQueues(n))
		return nil
	}},
}
