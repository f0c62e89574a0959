package reinject

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
	"github.com/onload-go/onload/ip"
)

const patience = time.Minute

// datagram is a UDP packet of n bytes of payload, all b.
func datagram(from, to netip.AddrPort, n int, b byte) []byte {
	var h ip.Header
	h.Init([6]byte{}, [6]byte{}, 0, from.Addr(), to.Addr(), ip.ProtoUDP, 0, 64)
	l4 := 8 + n
	frame := make([]byte, h.Len()+l4)
	h.Put(frame, l4, 0, 0)
	s := frame[h.Len():]
	s[0], s[1] = byte(from.Port()>>8), byte(from.Port())
	s[2], s[3] = byte(to.Port()>>8), byte(to.Port())
	s[4], s[5] = byte(l4>>8), byte(l4)
	for i := range n {
		s[8+i] = b
	}
	sum := ^ip.Add(ip.PseudoSum(from.Addr(), to.Addr(), ip.ProtoUDP, l4), ip.Sum(s))
	s[6], s[7] = byte(sum>>8), byte(sum)
	return frame[h.Len()-h.NetLen():]
}

// TestPackets: a socket gets datagrams of another host that never came by the wire, in
// order, small ones and those as large as they get, in both families.
func TestPackets(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	for _, ends := range [][2]netip.Addr{{p.B.Addr4, p.A.Addr4}, {p.B.Addr6, p.A.Addr6}} {
		from := netip.AddrPortFrom(ends[0], 5000)
		c, err := p.A.ListenPacket("udp", netip.AddrPortFrom(ends[1], 0).String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		to := netip.AddrPortFrom(ends[1], uint16(c.LocalAddr().(*net.UDPAddr).Port))
		sizes := []int{1, 1472, 4000, 65000}
		var all [][]byte
		for i, n := range sizes {
			all = append(all, datagram(from, to, n, byte(i)))
		}
		if err := p.A.Do(func() error {
			n, err := Packets(all)
			if n != len(all) && err == nil {
				t.Errorf("%d packets of %d", n, len(all))
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1<<16)
		for i, want := range sizes {
			n, who, err := c.ReadFrom(b)
			if err != nil || n != want || b[0] != byte(i) || who.String() != from.String() {
				t.Errorf("%v: %d bytes of %d from %v, %v; want %d of %d from %v", to, n, b[0], who, err, want, i, from)
			}
		}
	}
}

// TestBytes: what is no packet is refused before the kernel guesses.
func TestBytes(t *testing.T) {
	lab.NeedRoot(t)
	good := datagram(netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("127.0.0.1:2"), 3, 0)
	for _, p := range [][]byte{nil, good[:10], good[:len(good)-1], append([]byte{0x60}, good[1:]...), {0x60}} {
		if n, err := Packets([][]byte{p}); n != 0 || !errors.Is(err, ErrPacket) {
			t.Errorf("%x: %d, %v; want %v", p, n, err, ErrPacket)
		}
	}
}
