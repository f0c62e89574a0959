package interop

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// TestFragmentsSmallArena: the kernel's datagrams of 64 KiB come through in fragments
// for small MTUs where an engine has little packet memory.
func TestFragmentsSmallArena(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := engine(t, p.A, func(c *onload.Config) { c.Frames, c.FrameSize, c.RingSize = 1024, 2048, 256 })
	for _, tt := range []struct {
		from, to netip.Addr
		mtu      int
	}{{p.B.Addr4, p.A.Addr4, 576}, {p.B.Addr4, p.A.Addr4, 1280}, {p.B.Addr6, p.A.Addr6, 1280}} {
		t.Run(fmt.Sprint(tt.to, " MTU ", tt.mtu), func(t *testing.T) {
			bits := tt.to.BitLen()
			route := netlink.Route{LinkIndex: p.B.Index, MTU: tt.mtu, Dst: &net.IPNet{IP: tt.to.AsSlice(), Mask: net.CIDRMask(bits, bits)}}
			if err := p.B.Netlink().RouteReplace(&route); err != nil {
				t.Fatal(err)
			}
			c, err := e.ListenPacket("udp", netip.AddrPortFrom(tt.to, 0).String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if path := onload.PathOf(c); !path.Accelerated {
				t.Fatal(path)
			}
			sender, err := p.B.Dial("udp", c.LocalAddr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer sender.Close()
			data := bytes.Repeat([]byte("0123456789abcdef"), 65500/16)
			b := make([]byte, 1<<16)
			for end := time.Now().Add(time.Minute); ; { // a burst may be too much for the ring of a slow machine
				if _, err := sender.Write(data); err != nil {
					t.Fatal(err)
				}
				_ = c.SetReadDeadline(time.Now().Add(time.Second))
				n, _, err := c.ReadFrom(b)
				if err == nil && bytes.Equal(b[:n], data) {
					break
				}
				if err == nil || time.Now().After(end) {
					t.Fatalf("%d bytes, %v", n, err)
				}
			}
			if e.Stats()[p.A.If].Fragments.Whole == 0 {
				t.Error("there were no fragments")
			}
		})
	}
}
