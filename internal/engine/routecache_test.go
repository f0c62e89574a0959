package engine

import (
	"net/netip"
	"testing"
)

func TestRouteCache(t *testing.T) {
	var c routeCache
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	if _, ok := c.get(a, 1); ok {
		t.Error("an empty cache knows")
	}
	c.put(a, 1, kernelShard)
	c.put(b, 1, 2)
	if s, ok := c.get(b, 1); !ok || s != 2 {
		t.Errorf("%d, %v", s, ok)
	}
	if _, ok := c.get(b, 2); ok {
		t.Error("an answer outlived a change")
	}
	for i := range 256 { // all slots are within the table
		c.put(netip.AddrFrom4([4]byte{10, 0, byte(i), byte(i)}), 1, 0)
		c.put(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 1, 0)
	}
}
