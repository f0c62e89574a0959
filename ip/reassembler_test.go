package ip

import (
	"bytes"
	"encoding/binary"
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/onload-go/onload/ring"
)

// fragLab is a Reassembler with an arena that shows leaks.
type fragLab struct {
	testing.TB
	r     Reassembler
	arena *ring.Arena
	cache *ring.Cache
}

func newFragLab(t testing.TB, frames, limit, peer int) *fragLab {
	a, err := ring.NewArena(frames, 2048)
	if err != nil {
		t.Fatal(err)
	}
	l := &fragLab{TB: t, arena: a, cache: ring.NewCache(a, 1)}
	l.r.Init(l.cache, limit, peer)
	return l
}

// frames puts data into frames of at most room bytes, behind headers.
func (l *fragLab) frames(data []byte, room int) (ds []ring.Desc) {
	for {
		f, ok := l.cache.Alloc()
		if !ok {
			l.Fatal("no frame")
		}
		n := copy(l.arena.Bytes(f)[100:100+room], data)
		data = data[n:]
		ds = append(ds, ring.Desc{Frame: f, Off: 100, Len: uint16(n), Flags: ring.FlagMore})
		if len(data) == 0 {
			ds[len(ds)-1].Flags = 0
			return ds
		}
	}
}

// add gives the reassembler bytes off to end of a datagram, and returns the
// whole where it is done.
func (l *fragLab) add(p Packet, datagram []byte, off, end, room int, now int64) ([]byte, Packet) {
	p.Fragment, p.FragOff, p.L4Len = true, off, end-off
	p.MoreFrags = end < len(datagram)
	p.NetOff, p.L4Off = 14, 34
	if p.V6 {
		p.L4Off = 62
	}
	done := l.r.Add(&p, l.frames(datagram[off:end], room), 0, now)
	if done == nil {
		return nil, p
	}
	var whole []byte
	for i, d := range done {
		if more := d.Flags&ring.FlagMore != 0; more != (i < len(done)-1) {
			l.Fatalf("piece %d of %d: more is %v", i, len(done), more)
		}
		whole = append(whole, l.arena.Data(d)...)
	}
	l.cache.FreeDescs(done)
	if p.Fragment || p.MoreFrags || p.FragOff != 0 || p.L4Len != len(whole) {
		l.Fatalf("whole datagram of %d bytes: %+v", len(whole), p)
	}
	return whole, p
}

// empty checks that nothing is held, and that no frame is lost.
func (l *fragLab) empty() {
	l.Helper()
	if l.r.Held() != 0 || len(l.r.datagrams) != 0 || len(l.r.peers) != 0 || l.r.Deadline() != math.MaxInt64 {
		l.Errorf("%d bytes, %d datagrams, %d peers held", l.r.Held(), len(l.r.datagrams), len(l.r.peers))
	}
	l.cache.Flush()
	if n := l.arena.FreeFrames(); n != l.arena.Frames() {
		l.Errorf("%d of %d frames free", n, l.arena.Frames())
	}
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func packet4(id uint32) Packet { return Packet{Src: a4, Dst: b4, Proto: ProtoUDP, FragID: id, TTL: 64} }
func packet6(id uint32) Packet {
	return Packet{V6: true, Src: a6, Dst: b6, Proto: ProtoUDP, FragID: id, TTL: 64}
}

// All orders of fragments, in one frame or more each.
func TestReassembleOrders(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	l := newFragLab(t, 512, 1<<20, 1<<20)
	for i := range 500 {
		p := packet4(uint32(i))
		if i&1 != 0 {
			p = packet6(uint32(i))
		}
		size := 100 + r.IntN(65535-20-100)
		data := randomBytes(r, size)
		step := max(8*(1+r.IntN(400)), size/100&^7+8)
		var cuts []int
		for off := 0; off < size; off += step {
			cuts = append(cuts, off)
		}
		switch i % 3 {
		case 1:
			r.Shuffle(len(cuts), func(i, j int) { cuts[i], cuts[j] = cuts[j], cuts[i] })
		case 2:
			for i, j := 0, len(cuts)-1; i < j; i, j = i+1, j-1 {
				cuts[i], cuts[j] = cuts[j], cuts[i]
			}
		}
		for k, off := range cuts {
			whole, q := l.add(p, data, off, min(off+step, size), 1500, int64(i))
			if (whole != nil) != (k == len(cuts)-1) {
				t.Fatalf("datagram %d: done is %v after fragment %d of %d", i, whole != nil, k, len(cuts))
			}
			if whole != nil && (!bytes.Equal(whole, data) || q.Proto != ProtoUDP) {
				t.Fatalf("datagram %d of %d bytes is damaged", i, size)
			}
		}
	}
	if l.r.Stats.Whole != 500 {
		t.Errorf("%+v", l.r.Stats)
	}
	l.empty()
}

// RFC 5722, 4: after one overlap nothing of the datagram is left. As in Linux, a
// later fragment begins it anew; one within data that came in order is a duplicate.
func TestReassembleOverlap(t *testing.T) {
	data := make([]byte, 64)
	for _, c := range []struct {
		name     string
		off, end int
		same     bool
	}{
		{"front", 8, 24, false}, {"back", 40, 56, false}, {"inside", 24, 32, true}, {"around", 8, 56, false},
		{"same start", 16, 24, true}, {"same end", 40, 48, true}, {"first byte", 0, 24, false},
		{"across a seam", 24, 40, true},
	} {
		for _, p := range []Packet{packet4(1), packet6(1)} {
			l := newFragLab(t, 64, 1<<20, 1<<20)
			l.add(p, data, 16, 32, 1500, 0)
			l.add(p, data, 32, 48, 1500, 0)
			l.add(p, data, c.off, c.end, 1500, 0)
			if c.same != (l.r.Stats.Duplicates == 1) || c.same == (l.r.Stats.Overlaps == 1) || c.same == (l.r.Held() == 0) {
				t.Errorf("%s: %+v, %d held", c.name, l.r.Stats, l.r.Held())
			}
			l.add(p, data, 0, 16, 1500, 1)
			if whole, _ := l.add(p, data, 48, 64, 1500, 1); c.same != (whole != nil) {
				t.Errorf("%s: delivered: %v", c.name, whole != nil)
			}
			l.r.Expire(1 + fragTimeout6)
			l.empty()
		}
	}
}

// Fragments that came out of order are no run: a fragment across their seams
// overlaps.
func TestReassembleRuns(t *testing.T) {
	data := make([]byte, 64)
	l := newFragLab(t, 64, 1<<20, 1<<20)
	l.add(packet4(1), data, 32, 48, 1500, 0)
	l.add(packet4(1), data, 16, 32, 1500, 0)
	l.add(packet4(1), data, 24, 40, 1500, 0)
	if l.r.Stats.Overlaps != 1 {
		t.Errorf("%+v", l.r.Stats)
	}
	l.empty()
}

// Between two fragments of an IPv4 datagram come at most 64 others of the peer.
func TestReassembleTooFar(t *testing.T) {
	data := make([]byte, 64)
	for _, tt := range []struct {
		p      Packet
		others int
		whole  bool
	}{{packet4(1), 63, true}, {packet4(1), 64, false}, {packet6(1), 200, true}} {
		l := newFragLab(t, 1024, 1<<22, 1<<22)
		l.add(tt.p, data, 0, 32, 1500, 0)
		for i := range tt.others {
			p := tt.p
			p.FragID = uint32(2 + i)
			l.add(p, data, 8, 16, 1500, 0)
		}
		if whole, _ := l.add(tt.p, data, 32, 64, 1500, 0); tt.whole != (whole != nil) {
			t.Errorf("%d others, IPv6 %v: delivered %v", tt.others, tt.p.V6, whole != nil)
		}
		l.r.Flush()
		l.empty()
	}
}

func TestReassembleDuplicate(t *testing.T) {
	data := make([]byte, 48)
	l := newFragLab(t, 64, 1<<20, 1<<20)
	for _, off := range []int{0, 32, 0, 32} {
		l.add(packet6(1), data, off, off+16, 1500, 0)
	}
	if whole, _ := l.add(packet6(1), data, 16, 32, 1500, 0); whole == nil || l.r.Stats.Duplicates != 2 {
		t.Errorf("%+v", l.r.Stats)
	}
	l.empty()
}

// Two ends, an end in front of what came, more behind the end.
func TestReassembleContradiction(t *testing.T) {
	for _, c := range [][2][3]int{ // off, end, length of the datagram
		{{16, 24, 24}, {32, 40, 40}},
		{{32, 40, 100}, {16, 24, 24}},
		{{16, 24, 24}, {32, 40, 100}},
	} {
		l := newFragLab(t, 64, 1<<20, 1<<20)
		for _, f := range c {
			l.add(packet4(1), make([]byte, f[2]), f[0], f[1], 1500, 0)
		}
		if l.r.Stats.Overlaps != 1 {
			t.Errorf("%v: %+v", c, l.r.Stats)
		}
		l.r.Flush()
		l.empty()
	}
}

func TestReassembleRefuses(t *testing.T) {
	count := func(name string, got uint64, l *fragLab) {
		t.Helper()
		if got != 1 || l.r.Stats.Whole != 0 {
			t.Errorf("%s: %+v", name, l.r.Stats)
		}
		l.r.Flush()
		l.empty()
	}
	big := make([]byte, 80_000)

	l := newFragLab(t, 64, 1<<20, 1<<20)
	l.add(packet4(1), big[:65544], 65528, 65544, 1500, 0)
	l.add(packet4(1), big, 0, 32000, 1500, 0)
	l.add(packet4(1), big, 32000, 65528, 1500, 0)
	count("ping of death", l.r.Stats.Oversize, l)

	l = newFragLab(t, 64, 1<<20, 1<<20)
	l.add(packet4(1), big[:65520], 65504, 65520, 1500, 0)
	l.add(packet4(1), big, 0, 65504, 1500, 0)
	count("length with the header above 65535", l.r.Stats.Oversize, l)

	l = newFragLab(t, 64, 1<<20, 1<<20)
	l.add(packet4(1), big, 8, 8, 1500, 0)
	count("empty", l.r.Stats.Malformed, l)

	l = newFragLab(t, 64, 1<<20, 1<<20)
	l.add(packet6(1), big, 8, 23, 1500, 0)
	count("no multiple of 8", l.r.Stats.Malformed, l)

	l = newFragLab(t, 64, 1<<20, 1<<20)
	p := packet4(1)
	p.Proto = ProtoTCP
	l.add(p, big, 0, 16, 1500, 0)
	count("tiny first", l.r.Stats.Tiny, l)

	// RFC 7112: the chain does not end in the first fragment.
	l = newFragLab(t, 64, 1<<20, 1<<20)
	p = packet6(1)
	p.Proto = extDest
	l.add(p, cat(ext(extDest, 0), ext(ProtoUDP, 0), big[:100]), 0, 16, 1500, 0)
	count("chain cut", l.r.Stats.Tiny, l)

	l = newFragLab(t, 64, 1<<20, 1<<20)
	p.Proto = extFragment
	l.add(p, cat(fragExt(ProtoUDP, 0, false, 1), big[:100]), 0, 16, 1500, 0)
	count("nested fragment header", l.r.Stats.Tiny, l)

	l = newFragLab(t, 512, 1<<20, 1<<20)
	for off := 0; l.r.Stats.Oversize == 0 && off < 8*300; off += 8 {
		l.add(packet4(1), big[:4000], off, off+8, 1500, 0)
	}
	count("too many pieces", l.r.Stats.Oversize, l)

	l = newFragLab(t, 64, 1<<20, 1<<20)
	p = packet4(1)
	p.TOS = 3
	l.add(p, big[:32], 0, 16, 1500, 0)
	p.TOS = 0
	l.add(p, big[:32], 16, 32, 1500, 0)
	count("CE with not-ECT", l.r.Stats.ECN, l)
}

// A first fragment that is none must not describe the datagram that another
// begins: its extension headers would be longer than that fragment.
func TestReassembleBadFirst(t *testing.T) {
	udp := bytes.Repeat([]byte("abcdefgh"), 4)
	first := packet6(1)
	first.Proto = extDest
	for _, tt := range []struct {
		name  string
		bad   []byte
		whole bool
	}{
		{"options and nothing behind", ext(ProtoUDP, 1), true},
		{"longer than a datagram", cat(ext(ProtoUDP, 1), make([]byte, 1<<16)), false},
	} {
		l := newFragLab(t, 256, 1<<20, 1<<20)
		l.add(packet6(1), udp, 8, len(udp), 1500, 0)
		l.add(first, cat(tt.bad, udp), 0, len(tt.bad), 1500, 0)
		whole, q := l.add(packet6(1), udp, 0, 8, 1500, 0)
		if tt.whole != bytes.Equal(whole, udp) || tt.whole != (q.Proto == ProtoUDP && whole != nil) || l.r.Stats.Malformed == 0 {
			t.Errorf("%s: got %q of protocol %d, %+v", tt.name, whole, q.Proto, l.r.Stats)
		}
		l.empty()
	}
}

// The extension headers behind the fragment header are skipped, the packet is
// described as its first fragment, and congestion is not forgotten.
func TestReassembleDescribes(t *testing.T) {
	l := newFragLab(t, 64, 1<<20, 1<<20)
	udp := bytes.Repeat([]byte("abcdefgh"), 8)
	data := cat(ext(extDest, 1), ext(ProtoUDP, 0), udp)
	p := packet6(1)
	p.Proto, p.TOS, p.TTL, p.SrcMAC = extDest, 0xb9, 61, macA
	l.add(p, data, 0, 40, 1500, 0)
	p.Proto, p.TOS, p.TTL, p.SrcMAC = 99, 0x03, 60, macB
	whole, q := l.add(p, data, 40, len(data), 1500, 0)
	if !bytes.Equal(whole, udp) {
		t.Fatalf("%q", whole)
	}
	if q.Proto != ProtoUDP || q.TOS != 0xbb || q.TTL != 61 || q.SrcMAC != macA || q.L4Off != 62+24 || q.NetOff != 14 {
		t.Errorf("%+v", q)
	}
	l.empty()
}

func TestReassembleTimeout(t *testing.T) {
	l := newFragLab(t, 64, 1<<20, 1<<20)
	data := make([]byte, 64)
	l.add(packet4(1), data, 16, 32, 1500, 1000)
	l.add(packet6(1), data, 16, 32, 1500, 1000)
	if at := l.r.Deadline(); at != 1000+fragTimeout4 {
		t.Errorf("deadline %d", at)
	}
	l.r.Expire(1000 + fragTimeout4 - 1)
	if l.r.Stats.Timeouts != 0 {
		t.Error("too early")
	}
	l.r.Expire(1000 + fragTimeout4)
	if at := l.r.Deadline(); l.r.Stats.Timeouts != 1 || at != 1000+fragTimeout6 {
		t.Errorf("%+v, deadline %d", l.r.Stats, at)
	}
	l.r.Expire(1000 + fragTimeout6)
	l.empty()
}

// FragmentSmack: one peer, or many, send pieces that never become whole. Held
// memory stays bounded, and somebody else's datagram passes.
func TestReassembleFlood(t *testing.T) {
	const limit, peerLimit = 400 * 2048, 100 * 2048
	l := newFragLab(t, 1024, limit, peerLimit)
	r := rand.New(rand.NewPCG(1, 2))
	data := randomBytes(r, 4000)
	good := packet4(7)
	good.Src = netip.MustParseAddr("192.0.2.77")
	l.add(good, data, 0, 1480, 1500, 0)
	for i := range 20_000 {
		l.add(packet4(r.Uint32()), data, 8*r.IntN(400), 3208, 1500, int64(i))
		if l.r.Held() > peerLimit+10*2048 {
			t.Fatalf("%d bytes held by one peer", l.r.Held())
		}
	}
	l.add(good, data, 1480, 2960, 1500, 0)
	if whole, _ := l.add(good, data, 2960, 4000, 1500, 0); !bytes.Equal(whole, data) {
		t.Error("an honest peer's datagram was lost")
	}
	for i := range 20_000 {
		p := packet6(r.Uint32())
		a := b6.As16()
		binary.BigEndian.PutUint64(a[:], r.Uint64())
		p.Src = netip.AddrFrom16(a)
		l.add(p, data, 8, 16, 1500, int64(i))
		if l.r.Held() > limit || l.arena.FreeFrames() < 500 {
			t.Fatalf("%d bytes held, %d frames free", l.r.Held(), l.arena.FreeFrames())
		}
	}
	// A /64 is one peer.
	l.r.Flush()
	for i := range 2000 {
		p := packet6(1)
		a := a6.As16()
		binary.BigEndian.PutUint64(a[8:], uint64(i))
		p.Src = netip.AddrFrom16(a)
		l.add(p, data, 8, 16, 1500, 0)
	}
	if l.r.Held() > peerLimit {
		t.Errorf("%d bytes held by one /64", l.r.Held())
	}
	l.r.Flush()
	l.empty()
}

func TestReassembleAllocs(t *testing.T) {
	l := newFragLab(t, 64, 1<<20, 1<<20)
	ds := make([]ring.Desc, 1)
	id := uint32(0)
	run := func() {
		id++
		for off := 0; off < 3000; off += 1000 {
			f, _ := l.cache.Alloc()
			ds[0] = ring.Desc{Frame: f, Off: 100, Len: 1000}
			p := packet4(id)
			p.FragOff, p.L4Len, p.MoreFrags, p.NetOff, p.L4Off = off, 1000, off < 2000, 14, 34
			l.cache.FreeDescs(l.r.Add(&p, ds, 0, 0))
		}
	}
	run()
	if n := testing.AllocsPerRun(200, run); n != 0 {
		t.Errorf("%v allocations", n)
	}
	l.empty()
}

func BenchmarkReassemble(b *testing.B) {
	l := newFragLab(b, 128, 1<<20, 1<<20)
	ds := make([]ring.Desc, 1)
	b.ReportAllocs()
	for id := uint32(0); b.Loop(); id++ {
		for off := 0; off < 44*1480; off += 1480 {
			f, _ := l.cache.Alloc()
			ds[0] = ring.Desc{Frame: f, Off: 100, Len: 1480}
			p := packet4(id)
			p.FragOff, p.L4Len, p.MoreFrags, p.NetOff, p.L4Off = off, 1480, off < 43*1480, 14, 34
			l.cache.FreeDescs(l.r.Add(&p, ds, 0, 0))
		}
	}
}
