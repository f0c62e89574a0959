package stack

import (
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/onload-go/onload/tcp"
)

// TestRFC6191Dial: an outgoing connection takes the ports of one in TIME-WAIT
// where timestamps tell the segments of the two apart, and the old one is not
// too young.
func TestRFC6191Dial(t *testing.T) {
	for _, tt := range []struct {
		name  string
		noTS  bool
		age   int64
		again bool
	}{
		{"timestamps", false, 2 * reuseAfter, true},
		{"young", false, -int64(time.Hour), false},
		{"no timestamps", true, 2 * reuseAfter, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := newPair(t, pairOptions{tcp: tcp.Config{NoTimestamps: tt.noTS}})
			a.ports.enough = 1 // a port in TIME-WAIT is chosen at once
			l, err := b.ListenTCP(netip.AddrPortFrom(addrB, 0), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			talk := func() netip.AddrPort {
				t.Helper()
				c, err := a.DialTCP(t.Context(), netip.AddrPort{}, l.Addr(), nil)
				if err != nil {
					t.Fatal(err)
				}
				s, _, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := c.Write([]byte("x")); err != nil {
					t.Fatal(err)
				}
				if err := c.CloseWrite(); err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(s); string(got) != "x" || err != nil {
					t.Fatalf("%q, %v", got, err)
				}
				s.Close()
				if _, err := io.ReadAll(c); err != nil {
					t.Fatal(err)
				}
				c.Close()
				return c.LocalAddr()
			}
			first := talk()
			for limit := time.Now().Add(patience); a.sizes().timeWaits != 1; time.Sleep(time.Millisecond) {
				if time.Now().After(limit) {
					t.Fatal("no TIME-WAIT")
				}
			}
			a.begin()
			a.demux.timeWaitOf(first, l.Addr()).since = a.now - tt.age
			a.end()
			if again := talk() == first; again != tt.again {
				t.Errorf("took the old one's ports: %v", again)
			}
		})
	}
}
