package neigh

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onload-go/onload/ip"
)

// reports reads what a host has said of groups since the last call, a word for each
// record or older message.
func reports(t *testing.T, e *end) (l []string) {
	t.Helper()
	names := []string{"", "is-in", "is-ex", "to-in", "to-ex", "allow", "block"}
	for _, f := range e.sent {
		var p ip.Packet
		if ip.Parse(f, len(f), &p) != nil || p.Proto != protoIGMP && p.Proto != ip.ProtoICMPv6 {
			continue
		}
		m := f[p.L4Off:][:p.L4Len]
		sum, width := ip.Sum(m), 4
		if p.V6 {
			sum, width = ip.Add(sum, ip.PseudoSum(p.Src, p.Dst, p.Proto, len(m))), 16
		}
		switch m[0] {
		case igmpReportV3, mldReportV2:
			if want := []netip.Addr{igmpv3Routers, mldv2Routers}; !slices.Contains(want, p.Dst) {
				t.Errorf("a report to %v", p.Dst)
			}
			b := m[8:]
			for range binary.BigEndian.Uint16(m[6:]) {
				n := int(binary.BigEndian.Uint16(b[2:]))
				a, _ := netip.AddrFromSlice(b[4 : 4+width])
				s := fmt.Sprint(names[b[0]], " ", a)
				for b = b[4+width:]; n > 0; n, b = n-1, b[width:] {
					x, _ := netip.AddrFromSlice(b[:width])
					s += " " + x.String()
				}
				l = append(l, s)
			}
		case igmpReportV1, igmpReportV2, mldReportV1:
			l = append(l, fmt.Sprint("v", map[byte]int{igmpReportV1: 1, igmpReportV2: 2, mldReportV1: 2}[m[0]], " ", p.Dst))
		case igmpLeave, mldDone:
			a, _ := netip.AddrFromSlice(m[len(m)-width:])
			l = append(l, fmt.Sprint("leave ", a))
		default:
			continue
		}
		if sum != 0xffff || p.TTL != 1 || p.Src.Is6() && !p.Src.IsLinkLocalUnicast() && !p.Src.IsUnspecified() {
			t.Errorf("%v: sum %x, TTL %d, from %v", l[len(l)-1], sum, p.TTL, p.Src)
		}
	}
	e.sent = nil
	return l
}

// query is a router's question for members of a group, in a version.
func queryFrame(v6 bool, version int, group netip.Addr, sources ...netip.Addr) []byte {
	var m []byte
	src, dst, proto := routerAddr(9), allNodes, uint8(ip.ProtoICMPv6)
	if v6 {
		m = append([]byte{mldQuery, 0, 0, 0, 0x03, 0xe8, 0, 0}, group.AsSlice()...) // 1 s
	} else {
		src, dst, proto = netip.MustParseAddr("10.0.0.254"), allSystems, protoIGMP
		m = append([]byte{igmpQuery, 10, 0, 0}, group.AsSlice()...)
		if version == 1 {
			m[1] = 0
		}
	}
	if !group.IsUnspecified() {
		dst = group
	}
	if version == 3 {
		m = append(m, 2, 125, byte(len(sources)>>8), byte(len(sources)))
		for _, s := range sources {
			m = append(m, s.AsSlice()...)
		}
	}
	sum := ip.Sum(m)
	if v6 {
		sum = ip.Add(sum, ip.PseudoSum(src, dst, proto, len(m)))
	}
	binary.BigEndian.PutUint16(m[2:], ^sum)
	to, _ := ip.MulticastMAC(dst)
	var h ip.Header
	h.Init(mac(9), to, 0, src, dst, proto, 0, 1)
	b := make([]byte, h.Len())
	h.Put(b, len(m), 0, 0)
	return append(b, m...)
}

// groupFamilies are the same memberships of both families.
var groupFamilies = []struct {
	name        string
	v6          bool
	all, g      netip.Addr
	s1, s2      netip.Addr
	alsoReports int // a host's own solicited-node groups
}{
	{"igmp", false, netip.IPv4Unspecified(), netip.MustParseAddr("239.1.1.1"), netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("10.0.0.8"), 0},
	{"mld", true, netip.IPv6Unspecified(), netip.MustParseAddr("ff05::77"), netip.MustParseAddr("fd00::7"), netip.MustParseAddr("fd00::8"), 1},
}

// member joins a host on a wire of its own, whose own reports are over.
func joinMember(t *testing.T) (*wire, *end) {
	w := new(wire)
	a := w.join(1, true, "10.0.0.1/24", "fe80::1/64")
	w.run(10 * time.Second)
	a.sent = nil
	return w, a
}

// TestGroups: joins, changes of sources and leaves are reported twice within a second or
// so, in the records of RFC 3376, 5.1, and RFC 3810, 6.1.
func TestGroups(t *testing.T) {
	for _, f := range groupFamilies {
		w, a := joinMember(t)
		for _, c := range []struct {
			filter Filter
			want   string
		}{
			{Filter{}, "to-ex G"},
			{Filter{Sources: []netip.Addr{f.s1}}, "block G S1"},
			{Filter{Sources: []netip.Addr{f.s2}}, "allow G S1,block G S2"},
			{Filter{Include: true, Sources: []netip.Addr{f.s1}}, "to-in G S1"},
			{Filter{Include: true, Sources: []netip.Addr{f.s1, f.s2}}, "allow G S2"},
			{Filter{Include: true, Sources: []netip.Addr{f.s2}}, "block G S1"},
			{Filter{Include: true}, "block G S2"},
		} {
			want := strings.NewReplacer("G", f.g.String(), "S1", f.s1.String(), "S2", f.s2.String()).Replace(c.want)
			a.SetFilter(f.g, c.filter, w.now)
			w.run(3 * time.Second)
			if got := strings.Join(reports(t, a), ","); got != want+","+want {
				t.Errorf("%s, %+v: %s, want twice %s", f.name, c.filter, got, want)
			}
		}
		if n := len(a.groupsOf(f.g).members); n != f.alsoReports {
			t.Errorf("%s: %d groups are left", f.name, n)
		}
		// A change while the one before is still to be repeated: both are told, or the
		// later mode.
		a.SetFilter(f.g, Filter{Include: true, Sources: []netip.Addr{f.s1}}, w.now)
		a.SetFilter(f.g, Filter{Include: true, Sources: []netip.Addr{f.s1, f.s2}}, w.now)
		a.SetFilter(f.g, Filter{}, w.now)
		w.run(3 * time.Second)
		got := reports(t, a)
		if last := got[len(got)-1]; last != "to-ex "+f.g.String() || len(got) != 5 {
			t.Errorf("%s: %q", f.name, got)
		}
	}
}

// TestGroupQueries: questions are answered within their time, once: general ones for all
// groups in one report, those for a group and for sources by what is heard.
func TestGroupQueries(t *testing.T) {
	for _, f := range groupFamilies {
		w, a := joinMember(t)
		ask := func(sources ...netip.Addr) func(group netip.Addr) []string {
			return func(group netip.Addr) []string {
				for range 3 {
					a.Input(queryFrame(f.v6, 3, group, sources...), w.now)
				}
				if l := reports(t, a); len(l) > 0 {
					t.Errorf("%s: answered at once: %v", f.name, l)
				}
				w.run(2 * time.Second)
				return reports(t, a)
			}
		}
		if got := ask()(f.all); len(got) != f.alsoReports {
			t.Errorf("%s: a host without groups says %v", f.name, got)
		}
		a.SetFilter(f.g, Filter{Sources: []netip.Addr{f.s1}}, w.now)
		w.run(3 * time.Second)
		reports(t, a)
		for _, c := range []struct {
			what  string
			group netip.Addr
			of    []netip.Addr
			want  string
		}{
			{"the group", f.g, nil, "is-ex G S1"},
			{"sources", f.g, []netip.Addr{f.s1, f.s2}, "is-in G S2"},
			{"a blocked source", f.g, []netip.Addr{f.s1}, ""},
			{"another group", f.g.Next(), nil, ""},
		} {
			want := strings.NewReplacer("G", f.g.String(), "S1", f.s1.String(), "S2", f.s2.String()).Replace(c.want)
			if got := strings.Join(ask(c.of...)(c.group), ","); got != want {
				t.Errorf("%s, %s: %s, want %s", f.name, c.what, got, want)
			}
		}
		if got := ask()(f.all); len(got) != 1+f.alsoReports {
			t.Errorf("%s: a general query gets %v", f.name, got)
		}
		// A query from elsewhere.
		q := queryFrame(f.v6, 3, f.all)
		if f.v6 {
			q[21]++
		} else {
			q[22]++
			binary.BigEndian.PutUint16(q[24:], 0)
			binary.BigEndian.PutUint16(q[24:], ^ip.Sum(q[14:34]))
		}
		a.Input(q, w.now)
		w.run(2 * time.Second)
		if got := reports(t, a); len(got) != 0 {
			t.Errorf("%s: a query that was forwarded gets %v", f.name, got)
		}
	}
}

// TestGroupsOlder: to routers of older versions their messages are sent; another member's
// report is enough, and who reported last leaves.
func TestGroupsOlder(t *testing.T) {
	for _, f := range groupFamilies {
		for version := 2 - (1 - f.alsoReports); version <= 2; version++ {
			w, a := joinMember(t)
			a.Input(queryFrame(f.v6, version, f.all), w.now)
			w.run(11 * time.Second)
			reports(t, a)
			a.SetFilter(f.g, Filter{Include: true, Sources: []netip.Addr{f.s1}}, w.now)
			w.run(3 * time.Second)
			want := fmt.Sprintf("v%d %v", version, f.g)
			if got := reports(t, a); !slices.Equal(got, []string{want, want}) {
				t.Errorf("%s: joined by %v, want twice %s", f.name, got, want)
			}
			a.Input(queryFrame(f.v6, version, f.all), w.now)
			w.run(11 * time.Second)
			if got := reports(t, a); len(got) != 1+f.alsoReports || !slices.Contains(got, want) {
				t.Errorf("%s: answered by %v", f.name, got)
			}
			// Another member is faster.
			b := w.join(2, true, "10.0.0.2/24", "fe80::2/64")
			w.run(10 * time.Second)
			a.Input(queryFrame(f.v6, version, f.g), w.now)
			b.groupsOf(f.g).reportOlder(f.g, version)
			w.deliver()
			w.run(11 * time.Second)
			if got := reports(t, a); len(got) != 0 {
				t.Errorf("%s: the second member says %v", f.name, got)
			}
			a.SetFilter(f.g, Filter{Include: true}, w.now)
			w.run(3 * time.Second)
			if got := reports(t, a); len(got) != 0 {
				t.Errorf("%s: a member that was not the last to report leaves by %v", f.name, got)
			}
			a.SetFilter(f.g, Filter{}, w.now)
			w.run(3 * time.Second)
			reports(t, a)
			a.SetFilter(f.g, Filter{Include: true}, w.now)
			w.run(3 * time.Second)
			if got := reports(t, a); version == 2 && !slices.Equal(got, []string{"leave " + f.g.String()}) || version == 1 && len(got) != 0 {
				t.Errorf("%s: left by %v", f.name, got)
			}
			w.run(5 * time.Minute) // the older router is gone
			a.SetFilter(f.g, Filter{}, w.now)
			w.run(3 * time.Second)
			if got := reports(t, a); len(got) != 2 || !strings.HasPrefix(got[0], "to-ex") {
				t.Errorf("%s: without the older router %v", f.name, got)
			}
		}
	}
}

// TestSolicitedNode: the group at which neighbours ask for an address of ours is joined
// before the address is asked for, and left with the last address that has it.
func TestSolicitedNode(t *testing.T) {
	w := new(wire)
	a := w.join(1, false, "fe80::1/64", "fd00::1/64")
	group := ip.SolicitedNode(netip.MustParseAddr("fd00::1")).String()
	if got := reports(t, a); len(got) != 1 || got[0] != "to-ex "+group {
		t.Errorf("before addresses are asked for: %v", got)
	}
	w.run(10 * time.Second)
	reports(t, a)
	a.remove(netip.MustParsePrefix("fd00::1/64"), byConfig, w.now)
	w.run(3 * time.Second)
	if got := reports(t, a); len(got) != 0 {
		t.Errorf("left by %v, though another address has it", got)
	}
	a.remove(netip.MustParsePrefix("fe80::1/64"), byConfig, w.now)
	w.run(3 * time.Second)
	if got := reports(t, a); len(got) != 2 || got[0] != "to-in "+group || len(a.mld.members) != 0 {
		t.Errorf("left by %v", got)
	}
}

// TestGroupsMany: reports of many groups and sources fit into frames, and nothing of an
// included source is lost.
func TestGroupsMany(t *testing.T) {
	w, a := joinMember(t)
	var sources []netip.Addr
	for i := range 700 {
		sources = append(sources, netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}))
	}
	for i := range mostMembers + 5 {
		g := netip.AddrFrom4([4]byte{239, 2, byte(i >> 8), byte(i)})
		if ok := a.SetFilter(g, Filter{Include: i == 0, Sources: sources[:700*max(0, 1-i)]}, w.now); ok != (i < mostMembers) {
			t.Fatalf("group %d: room %v", i, ok)
		}
	}
	w.run(5 * time.Second)
	reports(t, a)
	a.Input(queryFrame(false, 3, netip.IPv4Unspecified()), w.now)
	w.run(2 * time.Second)
	for _, f := range a.sent {
		if len(f) > 1300 {
			t.Errorf("a frame of %d bytes", len(f))
		}
	}
	got, heard := reports(t, a), 0
	for _, r := range got {
		if strings.HasPrefix(r, "is-in 239.2.0.0 ") {
			heard += len(strings.Fields(r)) - 2
		}
	}
	if heard != len(sources) || len(got) < mostMembers {
		t.Errorf("%d records, %d sources", len(got), heard)
	}
}

// TestGroupsEnd: with Close the host leaves its groups, in the routers' version.
func TestGroupsEnd(t *testing.T) {
	for _, f := range groupFamilies {
		for version, want := range map[int]string{2: "leave " + f.g.String(), 3: "to-in " + f.g.String()} {
			t.Run(fmt.Sprint(f.name, version), func(t *testing.T) {
				w, a := joinMember(t)
				if version < 3 {
					a.Input(queryFrame(f.v6, version, f.all), w.now)
				}
				a.SetFilter(f.g, Filter{}, w.now)
				w.run(10 * time.Second)
				a.sent = nil
				a.Close(w.now)
				if got := reports(t, a); !slices.Contains(got, want) {
					t.Errorf("reported %q, want %q", got, want)
				}
			})
		}
	}
}
