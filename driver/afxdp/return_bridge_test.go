package afxdp

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
)

// TestReturnOnBridge: what is given back to a port of a bridge reaches the bridge's
// own address, in both modes.
func TestReturnOnBridge(t *testing.T) {
	for _, mode := range []Mode{ModeNative, ModeGeneric} {
		t.Run(mode.String(), func(t *testing.T) {
			p := lab.NewPair(t, lab.Options{})
			d := openAt(t, p.A, Config{Mode: mode})
			br, err := p.A.Bridge("br0", p.A.Link)
			if err != nil {
				t.Fatal(err)
			}
			to := netip.MustParseAddr("10.88.0.1")
			if err := br.AddAddr(netip.PrefixFrom(to, 24)); err != nil {
				t.Fatal(err)
			}
			k, err := p.A.Netlink().LinkByIndex(br.Index)
			if err != nil {
				t.Fatal(err)
			}
			c, err := p.A.ListenPacket("udp", netip.AddrPortFrom(to, 0).String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			src := host{p.B.MAC, to.Next()}
			dst := host{[6]byte(k.Attrs().HardwareAddr), to}
			for end := time.Now().Add(time.Minute); ; { // the port may not forward yet
				d.Return(datagram(src, dst, 9, c.LocalAddr().(*net.UDPAddr).AddrPort().Port(), pattern(20)))
				_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
				n, _, err := c.ReadFrom(make([]byte, 100))
				if n == 20 && err == nil {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("%d bytes, %v", n, err)
				}
			}
		})
	}
}
