package control

import (
	"net"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/ip"
)

// TestAcceptsLocalLate: where a rule comes before the local table, packets to our own
// addresses that it leads on are not ours. Without one IPv6 costs no question.
func TestAcceptsLocalLate(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	k := newKernel(t, p.A)
	const table = 100
	for _, f := range []struct {
		name     string
		family   int
		src, dst string
		// blackhole is the verdict on what a blackhole takes. IPv4 says EHOSTUNREACH for
		// each error where it does not forward (ip_route_input_slow).
		blackhole Verdict
	}{
		{"v4", unix.AF_INET, p.B.Addr4.String(), p.A.Addr4.String(), Elsewhere},
		{"v6", unix.AF_INET6, p.B.Addr6.String(), p.A.Addr6.String(), Refused},
	} {
		t.Run(f.name, func(t *testing.T) {
			nl := p.A.Netlink()
			flow := func(port uint16) Flow {
				return Flow{Src: addr(f.src), Dst: addr(f.dst), Proto: ip.ProtoTCP, SrcPort: 1000, DstPort: port}
			}
			before := k.questions()
			if got := k.Accepts(p.A.Index, flow(80)); got != Accepted || k.questions() != before {
				t.Errorf("verdict %d after %d questions, want %d after none", got, k.questions()-before, Accepted)
			}
			for _, r := range []netlink.Route{
				{Table: table, LinkIndex: p.A.Index, Dst: subnet(f.dst), Gw: addr(f.src).AsSlice()},
				{Table: table + 1, Dst: subnet(f.dst), Type: unix.RTN_UNREACHABLE},
			} {
				if err := nl.RouteAdd(&r); err != nil {
					t.Fatal(err)
				}
			}
			for port, action := range map[uint16]netlink.Rule{
				81: {Table: table}, 82: {Table: table + 1}, 83: {Type: unix.FR_ACT_PROHIBIT}, 84: {Type: unix.FR_ACT_BLACKHOLE},
			} {
				r := netlink.NewRule()
				r.Family, r.Priority, r.Table, r.Type = f.family, 50, action.Table, action.Type
				r.Dport = netlink.NewRulePortRange(port, port)
				if err := nl.RuleAdd(r); err != nil {
					t.Fatal(err)
				}
			}
			late := netlink.NewRule()
			late.Family, late.Priority, late.Table = f.family, 200, unix.RT_TABLE_LOCAL
			if err := nl.RuleAdd(late); err != nil {
				t.Fatal(err)
			}
			early := netlink.NewRule()
			early.Family, early.Priority, early.Table = f.family, 0, unix.RT_TABLE_LOCAL
			if err := nl.RuleDel(early); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the rules count", func() bool { return k.Accepts(p.A.Index, flow(81)) == Elsewhere })
			for port, want := range map[uint16]Verdict{80: AcceptedFlow, 81: Elsewhere, 82: Elsewhere, 83: Elsewhere, 84: f.blackhole} {
				if got := k.Accepts(p.A.Index, flow(port)); got != want {
					t.Errorf("port %d: verdict %d, want %d", port, got, want)
				}
			}
		})
	}
}

// subnet is the host route to an address.
func subnet(a string) *net.IPNet {
	bits := addr(a).BitLen()
	return &net.IPNet{IP: addr(a).AsSlice(), Mask: net.CIDRMask(bits, bits)}
}
