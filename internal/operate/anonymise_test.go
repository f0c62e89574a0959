package operate

import (
	"bytes"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
)

// commonPrefix is the length of the prefix that two addresses have in common.
func commonPrefix(a, b netip.Addr) int {
	x, y := a.AsSlice(), b.AsSlice()
	for i := range x {
		if d := x[i] ^ y[i]; d != 0 {
			return 8*i + bits.LeadingZeros8(d)
		}
	}
	return 8 * len(x)
}

// TestAnonymise: equal addresses stay equal, prefixes keep their lengths, nothing of an
// address is left in a text.
func TestAnonymise(t *testing.T) {
	key := bytes.Repeat([]byte{7}, 32)
	a, err := newAnonymiser(key)
	if err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for _, size := range []int{4, 16} {
		for range 200 {
			x, y := make([]byte, size), make([]byte, size)
			for i := range x {
				x[i], y[i] = byte(r.Uint32()), byte(r.Uint32())
			}
			n := r.IntN(size)
			copy(y, x[:n])
			p, _ := netip.AddrFromSlice(x)
			q, _ := netip.AddrFromSlice(y)
			if before, after := commonPrefix(p, q), commonPrefix(a.addr(p), a.addr(q)); before != after {
				t.Fatalf("%v and %v have %d bits in common, %d afterwards", p, q, before, after)
			}
		}
	}
	text := `{"address":"10.1.2.3","x":"to [2001:db8::1]:443, 10.1.2.3:80. 02:00:5E:10:00:01 at 12:30:45 of v1.26.1; 0.0.0.0 ::1 10.1.2.3."}`
	got := a.text(text)
	for _, left := range []string{"10.1.2.3", "2001:db8::1", "02:00:5E"} {
		if strings.Contains(got, left) {
			t.Errorf("%s is left: %s", left, got)
		}
	}
	hidden := a.addr(netip.MustParseAddr("10.1.2.3")).String()
	for _, want := range []string{fmt.Sprintf("%q", hidden), hidden + ":80. ", "]:443, ", "12:30:45 of v1.26.1; 0.0.0.0 ::1 " + hidden + `."`} {
		if !strings.Contains(got, want) {
			t.Errorf("%s is missing: %s", want, got)
		}
	}
	if a.text(text) != got {
		t.Error("it differs from time to time")
	}
	if b, err := newAnonymiser(bytes.Repeat([]byte{8}, 32)); err != nil || b.text(text) == got {
		t.Error("the key makes no difference")
	}
}
