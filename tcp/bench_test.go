package tcp

import (
	"testing"

	"github.com/onload-go/onload/ring"
)

// wireEnd is one end of a wire without faults that allocates nothing: a packet
// is copied to frames of the peer, and the NIC is done at once.
type wireEnd struct {
	h    *Host
	c    Conn
	peer *wireEnd
	in   [256][]ring.Desc // packets for this end
	n    int
	segs int
	ev   Event
}

func (e *wireEnd) Notify(ev Event) { e.ev |= ev }

func (e *wireEnd) Transmit(pkt []ring.Desc, _ uint8) bool {
	p := e.peer
	if p.n == len(p.in) {
		return false
	}
	ds := p.in[p.n][:0]
	for _, d := range pkt {
		f, ok := p.h.Cache.Alloc()
		if !ok {
			return false
		}
		k := copy(p.h.Arena.Bytes(f)[54:], e.h.Arena.Data(d))
		ds = append(ds, ring.Desc{Frame: f, Off: 54, Len: uint16(k), Flags: d.Flags})
	}
	p.in[p.n] = ds
	p.n++
	e.segs++
	return true
}

// poll is one poll turn: the batch, then Output.
func (e *wireEnd) poll(now int64) {
	var s Segment
	for i := range e.n {
		ds := e.in[i]
		b := e.h.Arena.Data(ds[0])
		total := 0
		for _, d := range ds {
			total += int(d.Len)
		}
		s.Local, s.Remote = e.c.Local(), e.c.Remote()
		n, err := s.Parse(b, total)
		if err != nil {
			panic(err)
		}
		ds[0].Off += uint16(n)
		ds[0].Len -= uint16(n)
		s.Payload = ds
		input(&e.c, &s, now)
	}
	e.n = 0
	e.c.Output(now)
}

func newWireEnds(t testing.TB, cfg Config, caps Caps, size int) (a, b *wireEnd) {
	mk := func() *wireEnd {
		e := &wireEnd{h: newHost(t, newArena(t, 8192, size), caps)}
		for i := range e.in {
			e.in[i] = make([]ring.Desc, 0, 20)
		}
		return e
	}
	a, b = mk(), mk()
	a.peer, b.peer = b, a
	a.c.Init(a.h, a, &cfg, addrA, addrB)
	b.c.Init(b.h, b, &cfg, addrB, addrA)
	t.Cleanup(func() {
		for _, e := range []*wireEnd{a, b} {
			e.c.Free()
			for i := range e.n {
				e.h.Cache.FreeDescs(e.in[i])
			}
		}
	})
	b.c.listenForTest(1e9)
	a.c.Connect(1e9)
	for range 4 {
		b.poll(1e9)
		a.poll(1e9)
	}
	if a.c.State() != Established || b.c.State() != Established {
		t.Fatal("not connected")
	}
	return a, b
}

// roundTrip sends one byte there and back.
func roundTrip(t testing.TB, a, b *wireEnd, buf []byte, now int64) {
	a.c.Write(buf[:1])
	a.c.Output(now)
	b.poll(now)
	if n, _, _ := b.c.Read(buf); n != 1 {
		t.Fatal("nothing arrived")
	}
	b.c.Write(buf[:1])
	b.c.Output(now)
	a.poll(now)
	if n, _, _ := a.c.Read(buf); n != 1 {
		t.Fatal("nothing came back")
	}
}

// bulk moves one buffer from a to b.
func bulk(a, b *wireEnd, buf, dst []byte, now *int64) {
	for sent, got := 0, 0; got < len(buf); {
		*now += 10e3
		sent += a.c.Write(buf[sent:])
		a.c.Output(*now)
		b.poll(*now)
		for {
			n, _, update := b.c.Read(dst)
			if got += n; n == 0 {
				break
			}
			if update {
				b.c.WindowUpdate(*now)
			}
		}
		if b.c.Deadline() <= *now {
			b.c.Expire(*now)
		}
		if a.c.Deadline() <= *now {
			a.c.Expire(*now)
		}
		a.poll(*now)
	}
}

func TestZeroAllocations(t *testing.T) {
	a, b := newWireEnds(t, Config{NoDelay: true}, Caps{MaxFrags: 1}, 2048)
	buf, dst := make([]byte, 256<<10), make([]byte, 64<<10)
	now := int64(1e9)
	bulk(a, b, buf, dst, &now)
	if n := testing.AllocsPerRun(200, func() { now += 20e3; roundTrip(t, a, b, buf, now) }); n != 0 {
		t.Errorf("round trip: %v allocations", n)
	}
	if n := testing.AllocsPerRun(20, func() { bulk(a, b, buf, dst, &now) }); n != 0 {
		t.Errorf("bulk: %v allocations", n)
	}
}

// Segments in a round trip: data one way, data with the acknowledgement back.
func TestRoundTripSegments(t *testing.T) {
	a, b := newWireEnds(t, Config{NoDelay: true}, Caps{MaxFrags: 1}, 2048)
	buf := make([]byte, 100)
	now := int64(2e9)
	for range 20 {
		now += 20e3
		roundTrip(t, a, b, buf, now)
	}
	a.segs, b.segs = 0, 0
	for range 100 {
		now += 20e3
		roundTrip(t, a, b, buf, now)
	}
	if a.segs != 100 || b.segs != 100 {
		t.Errorf("%d and %d segments for 100 round trips", a.segs, b.segs)
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	x, y := newWireEnds(b, Config{NoDelay: true}, Caps{MaxFrags: 1}, 2048)
	buf := make([]byte, 64)
	now := int64(1e9)
	b.ReportAllocs()
	for b.Loop() {
		now += 5e3
		roundTrip(b, x, y, buf, now)
	}
}

func BenchmarkBulk(b *testing.B) {
	for _, c := range []struct {
		name string
		cfg  Config
		caps Caps
		size int
	}{
		{"1500", Config{}, Caps{MaxFrags: 1}, 2048},
		{"1500csum", Config{}, Caps{MaxFrags: 1, TxCsum: true}, 2048},
		{"9000", Config{MTU: 9000}, Caps{MaxFrags: 8}, 4096},
		{"tso", Config{}, Caps{MaxFrags: 17, TSO: 65535, TxCsum: true}, 4096},
	} {
		b.Run(c.name, func(b *testing.B) {
			x, y := newWireEnds(b, c.cfg, c.caps, c.size)
			buf, dst := make([]byte, 256<<10), make([]byte, 64<<10)
			now := int64(1e9)
			bulk(x, y, buf, dst, &now)
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			x.segs, y.segs = 0, 0
			for b.Loop() {
				bulk(x, y, buf, dst, &now)
			}
			segs := float64(len(buf)) / float64(x.c.mss)
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/segs, "ns/MSS")
			b.ReportMetric(float64(y.segs)/float64(b.N), "acks/op")
		})
	}
}
