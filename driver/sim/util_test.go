package sim

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/steer"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

// clock is virtual time.
type clock struct{ now int64 }

func (c *clock) read() int64 { return c.now }

func link(t testing.TB, a, b Config, l LinkConfig) (*Device, *Device) {
	t.Helper()
	da, db, err := New(a, b, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		da.Close()
		db.Close()
	})
	for _, d := range []*Device{da, db} {
		for _, q := range d.queues {
			q.Refill()
		}
	}
	return da, db
}

// small are settings that keep tests cheap.
func small(c Config) Config {
	if c.TxRing == 0 {
		c.TxRing = 64
	}
	if c.RxRing == 0 {
		c.RxRing = 256
	}
	return c
}

var (
	addr4 = [2]netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:1000"), netip.MustParseAddrPort("10.0.0.2:2000")}
	addr6 = [2]netip.AddrPort{netip.MustParseAddrPort("[2001:db8::1]:1000"), netip.MustParseAddrPort("[2001:db8::2]:2000")}
)

// build makes a TCP or UDP frame with right checksums.
func build(proto uint8, src, dst netip.AddrPort, payload []byte) []byte {
	v6 := src.Addr().Is6()
	l3, l4 := 20, 20
	if v6 {
		l3 = 40
	}
	if proto == protoUDP {
		l4 = 8
	}
	b := make([]byte, 14+l3+l4+len(payload))
	n := b[14:]
	if v6 {
		binary.BigEndian.PutUint16(b[12:], 0x86dd)
		n[0] = 6 << 4
		binary.BigEndian.PutUint16(n[4:], uint16(len(b)-14-40))
		n[6], n[7] = proto, 64
		s, d := src.Addr().As16(), dst.Addr().As16()
		copy(n[8:], s[:])
		copy(n[24:], d[:])
	} else {
		binary.BigEndian.PutUint16(b[12:], 0x0800)
		n[0], n[8], n[9] = 0x45, 64, proto
		binary.BigEndian.PutUint16(n[2:], uint16(len(b)-14))
		s, d := src.Addr().As4(), dst.Addr().As4()
		copy(n[12:], s[:])
		copy(n[16:], d[:])
		putIPv4Sum(n[:l3])
	}
	t := n[l3:]
	binary.BigEndian.PutUint16(t, src.Port())
	binary.BigEndian.PutUint16(t[2:], dst.Port())
	if proto == protoTCP {
		t[12] = 5 << 4
		t[13] = 0x10
	} else {
		binary.BigEndian.PutUint16(t[4:], uint16(len(t)))
	}
	copy(t[l4:], payload)
	setSum(b, false)
	return b
}

// setSum puts the transport checksum of a frame, or only the pseudo-header's.
// It returns the Desc that describes the frame to a device that completes it.
func setSum(b []byte, partial bool) (d ring.Desc) {
	var h steer.Headers
	if !h.Parse(b, len(b)) {
		panic("setSum")
	}
	l4 := b[h.L4Off:]
	d = ring.Desc{NetOff: uint16(h.NetOff), CsumStart: uint16(h.L4Off), CsumOff: driver.TCPChecksum}
	if h.Proto == protoUDP {
		d.CsumOff, d.HdrLen = 6, d.CsumStart+8
	} else {
		d.HdrLen = d.CsumStart + uint16(l4[12]>>4)*4
	}
	if h.V6 {
		d.Flags |= ring.FlagV6
	}
	field := l4[d.CsumOff:][:2]
	field[0], field[1] = 0, 0
	s := ip.PseudoSum(h.Src, h.Dst, h.Proto, len(l4))
	if partial {
		d.Flags |= ring.FlagCsumPartial
	} else {
		s = ^ip.Add(s, ip.Sum(l4))
	}
	binary.BigEndian.PutUint16(field, s)
	return d
}

// verified reports whether a received frame's transport checksum is right.
func verified(b []byte) bool {
	var h steer.Headers
	return h.Parse(b, len(b)) && verify(b, &h)
}

// chain puts a frame into arena frames of at most n bytes.
func chain(t testing.TB, a *ring.Arena, b []byte, n int, first ring.Desc) []ring.Desc {
	t.Helper()
	var ds []ring.Desc
	for len(b) > 0 {
		f, ok := a.Alloc()
		if !ok {
			t.Fatal("no frame")
		}
		d := ring.Desc{Frame: f, Off: 64}
		if len(ds) == 0 {
			d = first
			d.Frame, d.Off = f, 64
		}
		k := min(n, len(b))
		copy(a.Bytes(f)[64:], b[:k])
		d.Len = uint16(k)
		if b = b[k:]; len(b) > 0 {
			d.Flags |= ring.FlagMore
		}
		ds = append(ds, d)
	}
	return ds
}

// send transmits a frame and lets go of it.
func send(t testing.TB, q driver.Queue, a *ring.Arena, b []byte, first ring.Desc) {
	t.Helper()
	ds := chain(t, a, b, 1500, first)
	if n := q.TxBatch(ds); n != len(ds) {
		t.Fatalf("TxBatch took %d of %d", n, len(ds))
	}
	if err := q.Kick(); err != nil {
		t.Fatal(err)
	}
	for _, d := range ds {
		a.Release(d.Frame)
	}
	q.Reclaim()
}

type received struct {
	data []byte
	desc ring.Desc // the first
	n    int
}

// recv takes all that has arrived at a queue.
func recv(t testing.TB, q driver.Queue, a *ring.Arena) (out []received) {
	t.Helper()
	ds := make([]ring.Desc, 64)
	for {
		n := q.RxBatch(ds)
		if n == 0 {
			return out
		}
		for rest := ds[:n]; len(rest) > 0; {
			k, bytes := ring.PacketLen(rest)
			if rest[k-1].Flags&ring.FlagMore != 0 {
				t.Fatal("RxBatch cut a packet")
			}
			r := received{desc: rest[0], n: k}
			for _, d := range rest[:k] {
				r.data = append(r.data, a.Data(d)...)
				a.Free(d.Frame)
			}
			if len(r.data) != bytes {
				t.Fatal("length")
			}
			out = append(out, r)
			rest = rest[k:]
		}
		q.Refill()
	}
}

// balanced checks that no frame was lost.
func balanced(t testing.TB, d *Device) {
	t.Helper()
	for _, q := range d.queues {
		q.Reclaim()
	}
	n := d.arena.FreeFrames()
	for _, q := range d.queues {
		n += len(q.fill) + q.rx.n
	}
	if n != d.arena.Frames() {
		t.Errorf("%s: %d of %d frames accounted for", d.Name(), n, d.arena.Frames())
	}
}
