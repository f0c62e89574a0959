package control

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/ip"
)

// forgedSource is the n-th source of a flood.
func forgedSource(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 18, byte(n >> 8), byte(n)})
}

// forged is a packet from the n-th source of a flood.
func forged(n int) packetIn {
	return newPacketIn(2, Flow{Src: forgedSource(n), Dst: addr("10.0.0.1")})
}

// TestVerdicts: answers of both kinds are remembered, for a time and while the view
// is the same.
func TestVerdicts(t *testing.T) {
	var d verdicts
	d.init()
	v, asked := newView(), 0
	get := func(now time.Duration, accepted bool) {
		t.Helper()
		want := verdictOf(accepted)
		if got := d.at(now, v, forged(0), func() Verdict { asked++; return verdictOf(accepted) }); got != want {
			t.Errorf("verdict %d, want %d", got, want)
		}
	}
	for _, accepted := range []bool{true, false} {
		start := d.clock()
		asked = 0
		get(start, accepted)
		get(start+cacheTime-1, accepted)
		if asked != 1 {
			t.Errorf("accepted %v: %d questions, want 1", accepted, asked)
		}
		get(start+cacheTime, accepted)
		if asked != 2 {
			t.Errorf("accepted %v: %d questions when the answer is old, want 2", accepted, asked)
		}
		v = newView()
		get(start+cacheTime, accepted)
		if asked != 3 {
			t.Errorf("accepted %v: %d questions after a change, want 3", accepted, asked)
		}
		v = newView()
	}
}

// TestVerdictsUnderFlood: a flood of forged sources has no more questions asked than
// the budget allows, and takes nobody's verdict but that of its like.
func TestVerdictsUnderFlood(t *testing.T) {
	var d verdicts
	d.init()
	v, asked := newView(), 0
	honest := newPacketIn(2, Flow{Src: addr("10.0.0.2"), Dst: addr("10.0.0.1")})
	const flood = 1 << 16
	from := func(now time.Duration, p packetIn, accepted bool) Verdict {
		return d.at(now, v, p, func() Verdict { asked++; return verdictOf(accepted) })
	}
	now := time.Millisecond
	if from(now, honest, true) != Accepted {
		t.Error("an honest source is not accepted")
	}
	unasked := 0
	for n := range flood {
		if from(now, forged(n), false) == Unasked {
			unasked++
		}
	}
	// The limiter's prices and depth are random, by half.
	if asked > 2*questionsBurst || unasked != flood+1-asked {
		t.Errorf("%d questions at once, %d packets without a verdict, of %d", asked, unasked, flood)
	}
	was := asked
	if from(now, honest, true) != Accepted || asked != was {
		t.Error("the flood took an honest source's verdict")
	}
	// A second later there are questions again, as many as a second has.
	asked = 0
	for n := range flood {
		from(now+time.Second, forged(n), false)
	}
	if asked == 0 || asked > 2*questionsBurst {
		t.Errorf("%d questions at once a second later", asked)
	}
}

// policyRoutes gives a namespace a rule that has the kernel asked, and strict checks
// of sources.
func policyRoutes(t testing.TB, p *lab.Pair) {
	t.Helper()
	for _, l := range []string{"all", p.A.If} {
		if err := p.A.Sysctl("net.ipv4.conf."+l+".rp_filter", "1"); err != nil {
			t.Fatal(err)
		}
	}
	r := netlink.NewRule()
	r.Priority, r.Table, r.Mark, r.Family = 100, 254, 7, netlink.FAMILY_V4
	if err := p.A.Netlink().RuleAdd(r); err != nil {
		t.Fatal(err)
	}
}

// TestAcceptsAsksOnce: packets of a source cost one question, whether it is accepted
// or refused, also where only the kernel knows.
func TestAcceptsAsksOnce(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	policyRoutes(t, p)
	k := newKernel(t, p.A)
	for src, want := range map[netip.Addr]Verdict{p.B.Addr4: Accepted, addr("192.0.2.7"): Refused} {
		const packets = 2000 // more than the budget of a moment
		before := k.questions()
		for range packets {
			if got := k.Accepts(p.A.Index, Flow{Src: src, Dst: p.A.Addr4}); got != want {
				t.Fatalf("%v: verdict %d, want %d", src, got, want)
			}
		}
		// Some more where the machine stalls for a second.
		if n := k.questions() - before; n == 0 || n > packets/10 {
			t.Errorf("%v: %d questions for %d packets", src, n, packets)
		}
	}
}

// questions returns how many the kernel was asked.
func (k *Kernel) questions() int {
	k.routes.mu.Lock()
	defer k.routes.mu.Unlock()
	return int(k.routes.seq)
}

// TestAcceptsStrict: where the snapshot knows all ways, strict checks need no
// question to the kernel.
func TestAcceptsStrict(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	if err := p.A.Sysctl("net.ipv4.conf.all.rp_filter", "1"); err != nil {
		t.Fatal(err)
	}
	away := prefix("198.18.0.0/15")
	route := netlink.Route{LinkIndex: 1, Dst: &net.IPNet{IP: away.Addr().AsSlice(), Mask: net.CIDRMask(15, 32)}}
	if err := p.A.Netlink().RouteAdd(&route); err != nil {
		t.Fatal(err)
	}
	k := newKernel(t, p.A)
	before := k.questions()
	for src, want := range map[string]Verdict{p.B.Addr4.String(): Accepted, "198.18.0.7": Refused, "192.0.2.7": Refused} {
		if got := k.Accepts(p.A.Index, Flow{Src: addr(src), Dst: p.A.Addr4}); got != want {
			t.Errorf("%v: verdict %d, want %d", src, got, want)
		}
	}
	if n := k.questions() - before; n != 0 {
		t.Errorf("%d questions", n)
	}
}

// BenchmarkAccepts is what the source of a packet costs, with the stack lock held:
// one that is known, and a flood of new ones.
func BenchmarkAccepts(b *testing.B) {
	p := lab.NewPair(b, lab.Options{})
	policyRoutes(b, p)
	k, err := NewKernel(p.A.Handle(), nil)
	if err != nil {
		b.Fatal(err)
	}
	defer k.Close()
	for _, sources := range []int{1, 1 << 16} {
		b.Run(fmt.Sprint("sources=", sources), func(b *testing.B) {
			before := k.questions()
			for i := 0; b.Loop(); i++ {
				n := i % sources
				k.Accepts(p.A.Index, Flow{Src: forgedSource(n), Dst: p.A.Addr4, Proto: ip.ProtoUDP})
			}
			b.ReportMetric(float64(k.questions()-before)/float64(b.N), "questions/op")
		})
	}
	b.Run("question", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			_, _ = k.routes.askInput(p.A.Index, Flow{Src: forgedSource(i), Dst: p.A.Addr4, Proto: ip.ProtoUDP})
		}
	})
}
