package sim

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/onload-go/onload/driver/steer"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

const big = 64000 // payload of a TSO packet

func tsoPacket(ends [2]netip.AddrPort) (frame []byte, first ring.Desc) {
	f := build(protoTCP, ends[0], ends[1], fill(big, 3))
	first = setSum(f, true)
	f[first.CsumStart+13] = 0x80 | 0x18 | 1 // CWR, ACK, PSH, FIN
	binary.BigEndian.PutUint32(f[first.CsumStart+4:], 0xfffff000)
	first.Flags |= ring.FlagGSO | ring.FlagCWR
	first.SegSize = 1400
	return f, first
}

func TestSegmentation(t *testing.T) {
	for _, ends := range [][2]netip.AddrPort{addr4, addr6} {
		a, b := link(t, small(Config{TakeAll: true, TSO: 65535, TxCsum: true, MaxFrags: 64}),
			small(Config{TakeAll: true, RxInfo: true}), LinkConfig{})
		f, first := tsoPacket(ends)
		send(t, a.queues[0], a.arena, f, first)
		got := recv(t, b.queues[0], b.arena)
		if len(got) != (big+1399)/1400 {
			t.Fatalf("%d segments", len(got))
		}
		var data []byte
		for i, s := range got {
			var h steer.Headers
			if !h.Parse(s.data, len(s.data)) || h.L4Off+h.L4Len != len(s.data) || !verified(s.data) {
				t.Fatalf("segment %d: bad lengths or checksum", i)
			}
			if !h.V6 {
				if ip.Sum(s.data[14:34]) != 0xffff {
					t.Fatalf("segment %d: bad IPv4 checksum", i)
				}
				if id := binary.BigEndian.Uint16(s.data[18:]); id != uint16(i) {
					t.Errorf("segment %d: id %d", i, id)
				}
			}
			if seq := binary.BigEndian.Uint32(s.data[h.L4Off+4:]); seq != 0xfffff000+uint32(i)*1400 {
				t.Errorf("segment %d: sequence number %x", i, seq)
			}
			want := byte(0x10)
			if i == 0 {
				want |= 0x80
			}
			if i == len(got)-1 {
				want |= 9
			}
			if fl := s.data[h.L4Off+13]; fl != want {
				t.Errorf("segment %d: flags %x, want %x", i, fl, want)
			}
			if s.desc.Flags != ring.FlagCsumGood {
				t.Errorf("segment %d: Desc flags %x", i, s.desc.Flags)
			}
			data = append(data, s.data[first.HdrLen:]...)
		}
		if !bytes.Equal(data, fill(big, 3)) {
			t.Error("other bytes")
		}
		if s := a.queues[0].Stats(); s.TxPackets != uint64(len(got)) {
			t.Errorf("%+v", s)
		}
		balanced(t, a)
		balanced(t, b)
	}
}

func TestLargeReceive(t *testing.T) {
	for _, virtual := range []bool{false, true} {
		for _, info := range []bool{false, true} {
			a, b := link(t, small(Config{TakeAll: true, TSO: 65535, TxCsum: true, MaxFrags: 64}),
				small(Config{TakeAll: true, LargeRx: true, Virtual: virtual, RxInfo: info}), LinkConfig{})
			f, first := tsoPacket(addr6)
			send(t, a.queues[0], a.arena, f, first)
			got := recv(t, b.queues[0], b.arena)
			if len(got) != 1 || len(got[0].data) != len(f) {
				t.Fatalf("%d packets", len(got))
			}
			if verified(got[0].data) == virtual {
				t.Errorf("virtual %v: full checksum is %v", virtual, !virtual)
			}
			want := ring.DescFlags(0)
			if info {
				want = ring.FlagGSO | ring.FlagCsumGood
				if virtual {
					want = ring.FlagGSO | ring.FlagCsumPartial
				}
				if got[0].desc.SegSize != 1400 {
					t.Errorf("SegSize %d", got[0].desc.SegSize)
				}
			}
			if fl := got[0].desc.Flags &^ ring.FlagMore; fl != want {
				t.Errorf("virtual %v, info %v: flags %x, want %x", virtual, info, fl, want)
			}
		}
	}
}

func TestPartialChecksum(t *testing.T) {
	for _, proto := range []uint8{protoTCP, protoUDP} {
		for _, ends := range [][2]netip.AddrPort{addr4, addr6} {
			for _, virtual := range []bool{false, true} {
				a, b := link(t, small(Config{TxCsum: true}), small(Config{TakeAll: true, Virtual: virtual}), LinkConfig{})
				f := build(proto, ends[0], ends[1], fill(333, 1))
				full := bytes.Clone(f)
				send(t, a.queues[0], a.arena, f, setSum(f, true))
				got := recv(t, b.queues[0], b.arena)
				if len(got) != 1 || got[0].desc.Flags != 0 {
					t.Fatal("reception")
				}
				want := full
				if virtual {
					want = f
				}
				if !bytes.Equal(got[0].data, want) {
					t.Errorf("protocol %d, virtual %v: other bytes", proto, virtual)
				}
			}
		}
	}
}

func TestUnsegmentable(t *testing.T) {
	a, b := link(t, small(Config{TSO: 65535, TxCsum: true, MaxFrags: 64}), small(Config{TakeAll: true}), LinkConfig{})
	f := build(protoUDP, addr4[0], addr4[1], fill(1300, 1))
	first := setSum(f, true)
	first.Flags |= ring.FlagGSO
	first.SegSize = 500
	send(t, a.queues[0], a.arena, f, first)
	if a.queues[0].Stats().TxInvalid != 1 || b.queues[0].RxPending() {
		t.Error("UDP was segmented")
	}
	// A segment size that does not fit the MTU.
	f, first = tsoPacket(addr4)
	first.SegSize = 1461
	send(t, a.queues[0], a.arena, f, first)
	if a.queues[0].Stats().TxInvalid != 2 || b.queues[0].RxPending() {
		t.Error("segments above the MTU")
	}
}

// No frame makes the parser panic.
func FuzzHeaders(f *testing.F) {
	f.Add(build(protoTCP, addr4[0], addr4[1], fill(9, 0)), uint16(4))
	f.Add(build(protoUDP, addr6[0], addr6[1], fill(9, 0)), uint16(100))
	ext := build(protoUDP, addr6[0], addr6[1], fill(60, 0))
	ext[20], ext[54], ext[62] = 0, 44, 17
	f.Add(ext, uint16(1))
	a, b, err := New(small(Config{TSO: 65535, TxCsum: true, MaxFrags: 64}), small(Config{RxInfo: true, Queues: 2}), LinkConfig{
		Seed: 1, AtoB: Faults{Corrupt: 0.5, MTU: 1000, Rate: 1e12, MarkBytes: 1}})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { a.Close(); b.Close() })
	b.AddPort(protoTCP, addr4[1])
	f.Fuzz(func(t *testing.T, frame []byte, seg uint16) {
		if len(frame) == 0 || len(frame) > 20000 {
			return
		}
		const gso = ring.FlagGSO | ring.FlagCsumPartial
		for _, d := range []ring.Desc{
			{},
			{Flags: gso, SegSize: seg, NetOff: 14, CsumStart: 34, CsumOff: 16, HdrLen: 54},
			{Flags: gso, SegSize: 100, NetOff: seg, CsumStart: seg + 20, CsumOff: 16, HdrLen: seg + 40},
			{Flags: ring.FlagCsumPartial, CsumStart: seg, CsumOff: 16},
		} {
			send(t, a.queues[0], a.arena, frame, d)
		}
		for _, q := range b.queues {
			recv(t, q, b.arena)
		}
	})
}
