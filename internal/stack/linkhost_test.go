package stack

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/ip"
)

// TestHostDatagram: a DHCP server's datagram reaches the link's host whole, before an
// address is ours and after, also behind datagrams of a socket whose headers are the same.
func TestHostDatagram(t *testing.T) {
	var got [][]byte
	a, b := newPair(t, pairOptions{nic: sim.Config{TakeAll: true}, config: func(c *Config) {
		c.Links[0].Host = func(f []byte) bool {
			got = append(got, bytes.Clone(f))
			return true
		}
	}})
	c := udpPair(t, a, b, addrB, nil)
	c.SetDeadline(time.Now().Add(patience))
	dev := a.cfg.Links[0].Steering.(*sim.Device)
	server := netip.AddrPortFrom(addrB, 67)
	dhcp := func(dst netip.Addr) []byte {
		return packetOf(addrB, dst, ip.ProtoUDP, udpOf(server, netip.AddrPortFrom(dst, 68), make([]byte, 300)))
	}
	for _, to := range []string{"255.255.255.255", "10.0.0.77"} {
		f := dhcp(netip.MustParseAddr(to))
		us := macs[addrA]
		copy(f, us[:])
		dev.Inject(0, f)
		takeAll(a)
		locked(a, func() {
			if len(got) != 1 || !bytes.Equal(got[0], f) {
				t.Errorf("to %s: the host gets %x", to, got)
			}
			got = nil
		})
	}
	for range 3 {
		dev.Inject(0, packetOf(addrB, addrA, ip.ProtoUDP, udpOf(c.RemoteAddr(), c.LocalAddr(), make([]byte, 300))))
		takeAll(a)
		if n, _, _, _, err := c.ReadFrom(make([]byte, 400)); n != 300 || err != nil {
			t.Fatal(n, err)
		}
		f := dhcp(addrA)
		dev.Inject(0, f)
		takeAll(a)
		locked(a, func() {
			if len(got) != 1 || !bytes.Equal(got[0], f) {
				t.Errorf("behind a socket's datagram the host gets %x", got)
			}
			got = nil
		})
	}
}
