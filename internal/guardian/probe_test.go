package guardian

import (
	"net/netip"
	"testing"

	"github.com/onload-go/onload/internal/flowtable"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/tcp"
)

// A probe is a whole packet of the connection, with timestamps and one octet.
func TestProbe(t *testing.T) {
	for _, f := range []flowtable.Flow{
		{Local: netip.MustParseAddrPort("192.0.2.1:80"), Remote: netip.MustParseAddrPort("198.51.100.7:4711"), Seq: 0xfffffffe},
		{Local: netip.MustParseAddrPort("[2001:db8::1]:80"), Remote: netip.MustParseAddrPort("[2001:db8::2]:4711"), Seq: 1},
	} {
		frame := make([]byte, 14+MaxProbe)
		n := 14 + probe(frame[14:], &f)
		frame[12], frame[13] = 0x08, 0x00
		if f.Local.Addr().Is6() {
			frame[12], frame[13] = 0x86, 0xdd
		}
		var p ip.Packet
		if err := ip.Parse(frame[:n], n, &p); err != nil {
			t.Fatal(err)
		}
		var s tcp.Segment
		l4 := frame[p.L4Off:n]
		hl, err := s.Parse(l4, p.L4Len)
		if err != nil {
			t.Fatal(err)
		}
		src, dst := tcp.Ports(l4)
		if p.Src != f.Local.Addr() || p.Dst != f.Remote.Addr() || src != f.Local.Port() || dst != f.Remote.Port() {
			t.Errorf("from %v %d to %v %d", p.Src, src, p.Dst, dst)
		}
		if s.Seq != f.Seq || s.Flags != tcp.FlagACK || !s.Opt.HasTS || p.L4Len-hl != 1 {
			t.Errorf("%+v with %d octets", s, p.L4Len-hl)
		}
		if sum := ip.Add(ip.PseudoSum(p.Src, p.Dst, ip.ProtoTCP, p.L4Len), ip.Sum(l4)); sum != 0xffff {
			t.Errorf("checksum %#x", sum)
		}
	}
}
