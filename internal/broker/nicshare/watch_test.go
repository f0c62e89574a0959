package nicshare

import (
	"net/netip"
	"testing"
)

// When the kernel has lost news of the interface, the programs are told again, and of
// what changes later.
func TestLostNews(t *testing.T) {
	w := newNetwork(t)
	n := w.share(ModeGeneric)
	knows := func(a netip.Addr) bool {
		var one uint8
		return n.filter.Addresses.Lookup(localOf(a), &one) == nil
	}
	many := netip.MustParsePrefix("10.77.200.1/32")
	n.mu.Lock() // the first piece of news waits, and the next ones pile up
	for range 1000 {
		if err := w.A.AddAddr(many); err != nil {
			n.mu.Unlock()
			t.Fatal(err)
		}
		if err := w.A.DelAddr(many); err != nil {
			n.mu.Unlock()
			t.Fatal(err)
		}
	}
	n.mu.Unlock()
	for _, a := range []string{"10.77.200.2/32", "10.77.200.3/32"} {
		p := netip.MustParsePrefix(a)
		must(t, w.A.AddAddr(p))
		await(t, "an address that came", func() bool { return knows(p.Addr()) })
		must(t, w.A.DelAddr(p))
		await(t, "an address that went", func() bool { return !knows(p.Addr()) })
	}
}
