package udp

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/onload-go/onload/ip"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		name  string
		b     []byte
		l4len int
		v6    bool
		want  Header
		err   error
	}{
		{"good", []byte{0x30, 0x39, 0, 53, 0, 12, 0xbe, 0xef}, 12, false, Header{12345, 53, 12, 0xbeef}, nil},
		{"good IPv6", []byte{0x30, 0x39, 0, 53, 0, 12, 0xbe, 0xef}, 12, true, Header{12345, 53, 12, 0xbeef}, nil},
		{"empty", []byte{0, 1, 0, 2, 0, 8, 0, 1}, 8, false, Header{1, 2, 8, 1}, nil},
		{"padded", []byte{0, 1, 0, 2, 0, 9, 0, 1}, 26, false, Header{1, 2, 9, 1}, nil},
		{"no checksum, IPv4", []byte{0, 1, 0, 2, 0, 8, 0, 0}, 8, false, Header{1, 2, 8, 0}, nil},
		{"no checksum, IPv6", []byte{0, 1, 0, 2, 0, 8, 0, 0}, 8, true, Header{}, ErrChecksum},
		{"length below the header's", []byte{0, 1, 0, 2, 0, 7, 0, 1}, 8, false, Header{}, ErrShort},
		{"length 0", []byte{0, 1, 0, 2, 0, 0, 0, 1}, 70_000, true, Header{}, ErrShort},
		{"length beyond the packet", []byte{0, 1, 0, 2, 0, 9, 0, 1}, 8, false, Header{}, ErrShort},
		{"seven bytes", []byte{0, 1, 0, 2, 0, 8, 0}, 7, false, Header{}, ErrShort},
	} {
		var h Header
		if err := Parse(c.b, c.l4len, c.v6, &h); err != c.err || err == nil && h != c.want {
			t.Errorf("%s: %v, %+v", c.name, err, h)
		}
	}
}

// Headers that Put writes verify, for sums of all kinds. A checksum that comes out
// as zero is written as 0xffff.
func TestPut(t *testing.T) {
	src, dst := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	ones := 0
	for i := range 0x10000 {
		b := make([]byte, HeaderLen+2)
		binary.BigEndian.PutUint16(b[HeaderLen:], uint16(i))
		pseudo := ip.PseudoSum(src, dst, ip.ProtoUDP, len(b))
		Put(b, 12345, 53, len(b), ip.Add(pseudo, ip.Sum(b[HeaderLen:])))
		if got := ip.Add(pseudo, ip.Sum(b)); got != 0xffff {
			t.Fatalf("payload %#x: sum %#x", i, got)
		}
		var h Header
		if err := Parse(b, len(b), true, &h); err != nil || h.Sum == 0 {
			t.Fatalf("payload %#x: %v", i, err)
		}
		if h.Sum == 0xffff {
			ones++
		}
	}
	if ones == 0 {
		t.Error("no checksum came out as zero: the case is not tested")
	}
}

func TestPutPartial(t *testing.T) {
	b := make([]byte, HeaderLen)
	PutPartial(b, 1, 2, 3000, 0xabcd)
	if want := [8]byte{0, 1, 0, 2, 0x0b, 0xb8, 0xab, 0xcd}; [8]byte(b) != want {
		t.Errorf("%x", b)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{0x30, 0x39, 0, 53, 0, 12, 0xbe, 0xef, 1, 2, 3, 4}, 0, true)
	f.Add([]byte{0, 1, 0, 2, 0, 8, 0, 0}, 18, false)
	f.Fuzz(func(t *testing.T, b []byte, padding int, v6 bool) {
		if padding < 0 || padding > 1<<20 {
			return
		}
		var h Header
		if Parse(b, len(b)+padding, v6, &h) != nil {
			return
		}
		if h.Len < HeaderLen || h.Len > len(b)+padding || v6 && h.Sum == 0 {
			t.Fatalf("%+v", h)
		}
		var out, again [HeaderLen]byte
		copy(again[:], b)
		PutPartial(out[:], h.SrcPort, h.DstPort, h.Len, h.Sum)
		if out != again {
			t.Fatalf("%x was read as %+v", again, h)
		}
	})
}
