package interop

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/ip"
)

// twinsWait bounds a hang.
const twinsWait = time.Minute

// twins are two sockets of one host, ours and one of the kernel's that no queue of
// ours sees. The same frames are sent to both, and what they read is compared.
type twins struct {
	*wire
	pair  *lab.Pair
	to    [2]netip.AddrPort
	heard [2]chan string
}

// newTwins opens them at the address of A's that a names.
func newTwins(t *testing.T, p *lab.Pair, ours func(network, address string) (net.PacketConn, error), a netip.Addr) *twins {
	w := &twins{wire: wireOf(t, p.B), pair: p}
	for i, listen := range []func(network, address string) (net.PacketConn, error){ours, p.A.ListenPacket} {
		c, err := listen("udp", netip.AddrPortFrom(a, 0).String())
		if err != nil {
			t.Fatal(err)
		}
		w.to[i] = c.LocalAddr().(*net.UDPAddr).AddrPort()
		heard := make(chan string, 1<<12)
		w.heard[i] = heard
		done := make(chan struct{})
		go func() {
			defer close(done)
			b := make([]byte, 100)
			for {
				n, _, err := c.ReadFrom(b)
				if err != nil {
					return
				}
				heard <- string(b[:n])
			}
		}()
		t.Cleanup(func() {
			c.Close()
			<-done
		})
	}
	return w
}

// frame is a datagram to one of them.
func (w *twins) frame(i int, mac [6]byte, src netip.Addr, data string) []byte {
	from := netip.AddrPortFrom(src, 999)
	b := udpBytes(from, w.to[i], []byte(data))
	var h ip.Header
	h.Init(w.pair.B.MAC, mac, 0, src, w.to[i].Addr(), ip.ProtoUDP, 0, 64)
	f := make([]byte, h.Len(), h.Len()+len(b))
	h.Put(f, len(b), 0, 0)
	return append(f, b...)
}

// read sends a datagram to each, and reports whether they read it. good is an
// address that is heard for certain, by which they see that it has passed.
func (w *twins) read(mac [6]byte, src, good netip.Addr, id string) (got [2]bool) {
	for i := range w.to {
		w.send(w.frame(i, mac, src, id))
		end := "end of " + id
		w.send(w.frame(i, w.pair.A.MAC, good, end))
		for passed := false; !passed; {
			select {
			case s := <-w.heard[i]:
				got[i] = got[i] || s == id
				passed = s == end
			case <-time.After(twinsWait):
				w.Fatalf("%s: not even a good datagram was heard by %d", id, i)
			}
		}
	}
	return got
}

// agree has both hear the same: at once, but for settings that the engine hears
// of a moment later, and frames that overtake each other. It returns what they
// hear.
func (w *twins) agree(what string, mac [6]byte, src, good netip.Addr) bool {
	w.Helper()
	for start, n := time.Now(), 0; ; n++ {
		got := w.read(mac, src, good, fmt.Sprint(what, " ", n))
		if got[0] == got[1] {
			return got[0]
		}
		if time.Since(start) > twinsWait {
			w.Errorf("%s: we read it: %v, the kernel: %v", what, got[0], got[1])
			return got[1]
		}
	}
}

// TestSources: datagrams whose source no other host has, or that rp_filter
// refuses, are read where the kernel reads them. Other addresses than 0.0.0.0 of
// 0.0.0.0/8 and IPv4 addresses inside of IPv6 ones are left out: the kernel reads
// those, and we never do (ip.Unicast).
func TestSources(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	for _, args := range [][]string{
		{"addr", "add", "10.77.1.9/24", "dev", p.A.If}, {"addr", "add", "10.50.0.1/32", "dev", "lo"},
		{"addr", "add", "fd77:0:0:9::9/64", "dev", p.A.If, "nodad"},
	} {
		iproute(t, p.A, args...)
	}
	e := engine(t, p.A)
	four := newTwins(t, p, e.ListenPacket, p.A.Addr4)
	six := newTwins(t, p, e.ListenPacket, p.A.Addr6)
	set := func(name string, value int) {
		for _, l := range []string{"all", p.A.If} {
			if err := p.A.Sysctl("net.ipv4.conf."+l+"."+name, fmt.Sprint(value)); err != nil {
				t.Fatal(err)
			}
		}
	}
	broadcast := p.A.Addr4.As4()
	broadcast[3] = 255
	for _, filter := range []int{2, 1, 0} {
		set("rp_filter", filter)
		for _, local := range []int{0, 1} {
			set("accept_local", local) // alone, which the kernel does not announce
			for _, src := range []netip.Addr{
				p.B.Addr4, netip.MustParseAddr("10.77.1.9"), netip.MustParseAddr("10.50.0.1"), p.A.Addr4, netip.AddrFrom4(broadcast),
				netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("127.0.0.5"), netip.MustParseAddr("0.0.0.0"),
				netip.MustParseAddr("240.1.1.1"), netip.MustParseAddr("255.255.255.255"), netip.MustParseAddr("224.0.0.9"),
			} {
				if src == p.A.Addr4 && local == 1 {
					continue // from an address to itself nobody takes anything (LAND)
				}
				what := fmt.Sprintf("accept_local=%d rp_filter=%d from %v", local, filter, src)
				t.Log(what, "read:", four.agree(what, p.A.MAC, src, p.B.Addr4))
			}
		}
	}
	for _, src := range []netip.Addr{
		p.B.Addr6, netip.MustParseAddr("fd77:0:0:9::9"), netip.MustParseAddr("2001:db8::1"), netip.IPv6Loopback(),
		netip.MustParseAddr("ff02::5"),
	} {
		what := fmt.Sprintf("from %v", src)
		t.Log(what, "read:", six.agree(what, p.A.MAC, src, p.B.Addr6))
	}
}
