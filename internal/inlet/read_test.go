package inlet

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

// record is what the program writes for a packet of so many bytes.
func record(proto, gso, cut uint32, header, l4 []byte) []byte {
	b := make([]byte, offData, offData+len(l4))
	for off, v := range map[int]uint32{offLink: 3, offLen: uint32(len(l4)), offGSO: gso, offCut: cut, offProto: proto} {
		binary.NativeEndian.PutUint32(b[off:], v)
	}
	copy(b[offHeader:], header)
	return append(b, l4...)
}

// TestRecords: packets of both families and protocols, joined ones, one that was cut,
// and records that make no sense.
func TestRecords(t *testing.T) {
	l4 := make([]byte, 30)
	binary.BigEndian.PutUint16(l4, 7)
	binary.BigEndian.PutUint16(l4[2:], 8)
	l4[13] = 0x19 // ACK, PSH, FIN
	v4 := []byte{0x46, 0xb9, 9: 6, 8: 61, 12: 192, 14: 2, 15: 1, 16: 10, 19: 9}
	v6 := append([]byte{0x6b, 0x90, 7: 61}, make([]byte, 32)...)
	v6[8], v6[24] = 0xfd, 0xfe

	var b batch
	b.add(record(6, 0, 0, v4, l4))
	b.add(record(6, 1448, 1, v4, l4))
	b.add(record(17, 0, 0, v6, l4))
	for _, bad := range [][]byte{nil, make([]byte, offData-1), record(6, 0, 0, v4, l4[:19]), record(17, 0, 0, v4, l4[:7]), record(6, 0, 0, v4, l4)[:offData+29]} {
		b.add(bad)
	}
	if len(b.packets) != 3 {
		t.Fatalf("%d packets", len(b.packets))
	}
	for i, want := range []struct {
		remote, local string
		udp, summed   bool
		flags         byte
	}{
		{"192.0.2.1:7", "10.0.0.9:8", false, false, 0x19},
		{"192.0.2.1:7", "10.0.0.9:8", false, true, 0x10},
		{"[fd00::]:7", "[fe00::]:8", true, true, 0x19},
	} {
		p := &b.packets[i]
		if p.Link != 3 || p.UDP != want.udp || p.Summed != want.summed || p.TOS != 0xb9 || p.TTL != 61 ||
			p.Remote != netip.MustParseAddrPort(want.remote) || p.Local != netip.MustParseAddrPort(want.local) {
			t.Errorf("%d: %+v", i, p)
		}
		if len(p.Data) != len(l4) || p.Data[13] != want.flags {
			t.Errorf("%d: data %x", i, p.Data)
		}
	}
}
