package drivertest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ring"
)

// A full ring takes no part of a packet, and gives its places back.
func testRingFull(t *testing.T, l *Ends) {
	l.ready(t)
	q := l.A.queue()
	free := l.A.Arena().FreeFrames()
	pieces := min(2, l.A.Caps().MaxFrags)
	pkt := l.A.place(t, l.datagram(958, 1), 500)[:pieces]
	pkt[pieces-1].Flags = 0
	sent := 0
	for q.TxSpace() >= pieces {
		if n := q.TxBatch(pkt); n != pieces {
			t.Fatalf("TxBatch took %d of %d, TxSpace %d", n, pieces, q.TxSpace())
		}
		sent++
	}
	if sent != q.Caps().TxRing/pieces {
		t.Errorf("%d packets of %d Descs on a ring of %d", sent, pieces, q.Caps().TxRing)
	}
	if n := q.TxBatch(pkt); n != 0 || q.Stats().TxRingFull == 0 {
		t.Errorf("a full ring took %d; %+v", n, q.Stats())
	}
	if !l.A.Arena().InNIC(pkt[0].Frame) {
		t.Error("the ring does not hold the frame")
	}
	l.A.release(pkt)
	l.A.kick(t)
	if got := l.A.settled(t); got+len(pkt)-pieces > free || got < free-len(pkt) {
		t.Errorf("%d free frames, %d before", got, free)
	}
	if l.A.Arena().InNIC(pkt[0].Frame) {
		t.Error("the ring still holds the frame")
	}
}

// A packet that can never be sent is dropped and counted, and blocks nothing.
func testInvalid(t *testing.T, l *Ends) {
	l.ready(t)
	c := l.A.Caps()
	size := l.A.Arena().FrameSize()
	for name, spoil := range map[string]func(ds []ring.Desc) []ring.Desc{
		"empty Desc":       func(ds []ring.Desc) []ring.Desc { ds[0].Len = 0; return ds },
		"outside of frame": func(ds []ring.Desc) []ring.Desc { ds[0].Off = uint16(size - 10); return ds },
		"without its end":  func(ds []ring.Desc) []ring.Desc { ds[0].Flags |= ring.FlagMore; return ds },
		"too many Descs": func(ds []ring.Desc) []ring.Desc {
			l.A.release(ds)
			return l.A.place(t, l.datagram(20*(c.MaxFrags+1)-42, 1), 20)
		},
		"checksum": func(ds []ring.Desc) []ring.Desc {
			if c.TxCsum {
				ds[0].CsumStart = ds[0].Len // no field in the packet
			}
			ds[0].Flags |= ring.FlagCsumPartial
			return ds
		},
		"segments without a size": func(ds []ring.Desc) []ring.Desc {
			ds[0].Flags |= ring.FlagGSO | ring.FlagCsumPartial
			return ds
		},
	} {
		t.Run(name, func(t *testing.T) {
			free := l.A.settled(t)
			before := l.A.queue().Stats().TxInvalid
			l.A.post(t, spoil(l.A.place(t, l.datagram(100, 1), 0)))
			good := l.datagram(100, 2)
			l.A.send(t, good)
			if came := l.B.receiveUntil(t, good); len(came) != 0 {
				t.Errorf("it came: %x", came)
			}
			if n := l.A.queue().Stats().TxInvalid - before; n != 1 {
				t.Errorf("%d counted as invalid", n)
			}
			if got := l.A.settled(t); got != free {
				t.Errorf("%d free frames, %d before", got, free)
			}
			if err := l.A.queue().Err(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// The device completes checksums if Caps say so.
func testChecksum(t *testing.T, l *Ends) {
	l.needs(t, "Checksum", l.A.Caps().TxCsum)
	l.ready(t)
	for _, proto := range []uint8{tcp, udp} {
		for _, v6 := range []bool{false, true} {
			f := l.flow(proto, v6)
			b, d := f.packet(pattern(333, proto), true)
			ds := l.A.place(t, b, 0)
			describe(&ds[0], d)
			l.A.post(t, ds)
			l.A.kick(t)
			got := l.B.receive(t, 1)[0]
			if !sound(got, l.B.Caps().Virtual) {
				t.Errorf("protocol %d, v6 %v: wrong checksum", proto, v6)
			}
			at := int(d.CsumStart + d.CsumOff)
			copy(got[at:], b[at:at+2])
			if !bytes.Equal(got, b) {
				t.Errorf("protocol %d, v6 %v: other bytes", proto, v6)
			}
		}
	}
}

const mss = 1400

// The device segments if Caps say so, in order with the packets sent before and
// after.
func testSegment(t *testing.T, l *Ends) {
	l.needs(t, "Segment", l.A.Caps().TSO != 0)
	l.ready(t)
	for _, v6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("v6=%v", v6), func(t *testing.T) {
			f := l.flow(tcp, v6)
			size := l.segmentable(&f)
			b, d := f.packet(pattern(size, 1), true)
			d.Flags |= ring.FlagGSO | ring.FlagCWR
			d.SegSize = mss
			b[d.CsumStart+driver.TCPFlags] |= cwr
			free := l.A.settled(t)
			before, _ := f.packet(pattern(9, 2), false)
			l.A.post(t, l.A.place(t, before, 0))
			ds := l.A.place(t, b, 0)
			describe(&ds[0], d)
			l.A.post(t, ds)
			l.A.kick(t)
			got := l.B.receive(t, 1)
			if !bytes.Equal(got[0], before) {
				t.Fatal("the packet before was overtaken")
			}
			s := stream{t: t, l: l, hdr: int(d.HdrLen), l4: int(d.CsumStart), whole: b}
			for s.add(got[1:]); s.n < size; {
				s.add(l.B.receive(t, 1))
			}
			if got := l.A.settled(t); got != free {
				t.Errorf("%d free frames, %d before", got, free)
			}
		})
	}
}

// segmentable is how many bytes of payload a test has the device of A cut: as many as it
// can behind another packet where B may receive them uncut, else few enough for any ring.
func (l *Ends) segmentable(f *flow) int {
	c, a := l.A.Caps(), l.A.Arena()
	_, d := f.packet(nil, true)
	frames := min(c.TSOFrags, c.TxRing-1)
	most := min(c.TSO+int(d.NetOff), frames*(a.FrameSize()-ring.Headroom)) - int(d.HdrLen)
	if l.B.Caps().LargeRx {
		return most
	}
	return min(most, 20*mss+1)
}

// stream puts segments together again.
type stream struct {
	t       *testing.T
	l       *Ends
	hdr, l4 int
	whole   []byte
	n       int // bytes of payload so far
}

func (s *stream) add(packets [][]byte) {
	t := s.t
	t.Helper()
	for _, b := range packets {
		b = unpadded(b)
		if len(b) <= s.hdr {
			t.Fatalf("a segment of %d bytes", len(b))
		}
		if at := binary.BigEndian.Uint32(b[s.l4+driver.TCPSeq:]); int(at) != s.n {
			t.Fatalf("byte %d came, want %d", at, s.n)
		}
		if !s.l.B.Caps().LargeRx && len(b)-s.hdr > mss {
			t.Errorf("a segment of %d bytes", len(b)-s.hdr)
		}
		if marked := b[s.l4+driver.TCPFlags]&cwr != 0; marked != (s.n == 0) {
			t.Errorf("CWR %v at byte %d", marked, s.n) // RFC 3168 section 6.1.2
		}
		if !sound(b, s.l.B.Caps().Virtual) {
			t.Errorf("wrong checksum at byte %d", s.n)
		}
		if !bytes.Equal(b[s.hdr:], s.whole[s.hdr+s.n:][:len(b)-s.hdr]) {
			t.Errorf("other bytes at %d", s.n)
		}
		s.n += len(b) - s.hdr
	}
}

// A ring with nothing on it is no error to kick.
func testNoKick(t *testing.T, l *Ends) {
	q := l.A.queue()
	if err := q.Kick(); err != nil || q.Reclaim() != 0 {
		t.Error(err)
	}
	if s := q.Stats(); s.TxRingNone != 1 || s.KickErrors != 0 {
		t.Errorf("%+v", s)
	}
}
