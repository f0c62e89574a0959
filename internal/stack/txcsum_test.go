package stack

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/onload-go/onload/driver/sim"
)

// TestTxChecksum: checksums left to the device are right at a peer that verifies
// them, and those that a device cannot compute (of fragments) are not left to it.
func TestTxChecksum(t *testing.T) {
	a, b := newPair(t, pairOptions{nic: sim.Config{TxCsum: true}})
	for _, to := range []netip.Addr{addrB, six[addrB]} {
		c := udpPair(t, a, b, to, nil)
		x, y := connect(t, a, b, to)
		for _, n := range []int{0, 1, 2, 600, 1400, 1473, 5001, 60000} {
			t.Run(fmt.Sprintf("%v/%d", to, n), func(t *testing.T) {
				want, got := make([]byte, n), make([]byte, n+1)
				for i := range want {
					want[i] = byte(i*7 + 1)
				}
				c.SetDeadline(time.Now().Add(patience))
				if _, err := c.WriteTo(want, netip.AddrPort{}); err != nil {
					t.Fatal(err)
				}
				if k, _, _, _, err := c.ReadFrom(got); err != nil || !bytes.Equal(got[:k], want) {
					t.Errorf("datagram: %d bytes, %v", k, err)
				}
				if n == 0 {
					return
				}
				x.SetDeadline(time.Now().Add(patience))
				y.SetDeadline(time.Now().Add(patience))
				if _, err := x.Write(want); err != nil {
					t.Fatal(err)
				}
				for k := 0; k < n; {
					m, err := y.Read(got[k:n])
					if err != nil {
						t.Fatalf("stream: %d bytes, %v", k, err)
					}
					k += m
				}
				if !bytes.Equal(got[:n], want) {
					t.Error("stream: other bytes")
				}
			})
		}
	}
	for _, s := range []*Stack{a, b} {
		if n := s.Stats().RxChecksum; n != 0 {
			t.Errorf("%d wrong checksums", n)
		}
	}
}
