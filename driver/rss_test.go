package driver

import (
	"net/netip"
	"testing"

	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
)

// The verification suite of Microsoft's "RSS hashing types" page, which every
// NIC's data sheet repeats.
func TestToeplitz(t *testing.T) {
	key := []byte{
		0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
		0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
		0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
	}
	h := NewToeplitz(key)
	for _, c := range []struct {
		dst, src    string
		addrs, flow uint32
	}{
		{"161.142.100.80:1766", "66.9.149.187:2794", 0x323e8fc2, 0x51ccc178},
		{"65.69.140.83:4739", "199.92.111.2:14230", 0xd718262a, 0xc626b0ea},
		{"12.22.207.184:38024", "24.19.198.95:12898", 0xd2d0a5de, 0x5c2b394a},
		{"209.142.163.6:2217", "38.27.205.30:48228", 0x82989176, 0xafc7327f},
		{"202.188.127.2:1303", "153.39.163.191:44251", 0x5d1809c5, 0x10e828a2},
		{"[3ffe:2501:200:3::1]:1766", "[3ffe:2501:200:1fff::7]:2794", 0x2cc18cd5, 0x40207d3d},
		{"[ff02::1]:4739", "[3ffe:501:8::260:97ff:fe40:efab]:14230", 0x0f0c461c, 0xdde51bbf},
		{"[fe80::200:f8ff:fe21:67cf]:38024", "[3ffe:1900:4545:3:200:f8ff:fe21:67cf]:44251", 0x4b61e985, 0x02d1feef},
	} {
		src, dst := netip.MustParseAddrPort(c.src), netip.MustParseAddrPort(c.dst)
		if got := h.Addrs(src.Addr(), dst.Addr()); got != c.addrs {
			t.Errorf("%s to %s: addresses %08x, want %08x", c.src, c.dst, got, c.addrs)
		}
		if got := h.Flow(src, dst); got != c.flow {
			t.Errorf("%s to %s: flow %08x, want %08x", c.src, c.dst, got, c.flow)
		}
	}
}

func TestRSSQueue(t *testing.T) {
	if RSSQueue(nil, 77) != 0 {
		t.Error("without a table there is one queue")
	}
	if q := RSSQueue([]uint32{3, 2, 1, 0}, 0xfffffffe); q != 1 {
		t.Errorf("queue %d", q)
	}
}

func TestToeplitzAllocs(t *testing.T) {
	h := NewToeplitz([]byte{1, 2, 3})
	src, dst := netip.MustParseAddrPort("[2001:db8::1]:1"), netip.MustParseAddrPort("[2001:db8::2]:2")
	if n := testing.AllocsPerRun(100, func() { h.Flow(src, dst) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkToeplitz4(b *testing.B) {
	h := NewToeplitz([]byte{1, 2, 3})
	src, dst := netip.MustParseAddrPort("10.0.0.1:1"), netip.MustParseAddrPort("10.0.0.2:2")
	for b.Loop() {
		h.Flow(src, dst)
	}
}
