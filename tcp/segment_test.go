package tcp

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
)

func TestFlagsString(t *testing.T) {
	for f, want := range map[Flags]string{
		0: "none", FlagSYN: "S", FlagSYN | FlagACK: "S.", FlagFIN | FlagPSH | FlagURG: "FPU", 0xff: "FSRP.UEW",
	} {
		if got := f.String(); got != want {
			t.Errorf("Flags(%#x) = %q, want %q", uint8(f), got, want)
		}
	}
}

func TestSeq(t *testing.T) {
	for _, c := range []struct {
		a, b uint32
		lt   bool
	}{
		{0, 1, true}, {1, 0, false}, {5, 5, false},
		{0xffffffff, 0, true}, {0, 0xffffffff, false},
		{0xfffffff0, 0x10, true}, {0, 0x7fffffff, true}, {0x7fffffff, 0, false},
	} {
		if seqLT(c.a, c.b) != c.lt || seqGE(c.a, c.b) == c.lt {
			t.Errorf("%#x before %#x: want %v", c.a, c.b, c.lt)
		}
		if c.a != c.b && (seqGT(c.b, c.a) != c.lt || seqLE(c.b, c.a) == c.lt) {
			t.Errorf("%#x after %#x: want %v", c.b, c.a, c.lt)
		}
		lo, hi := c.a, c.b
		if !c.lt {
			lo, hi = hi, lo
		}
		if seqMax(c.a, c.b) != hi || seqMin(c.a, c.b) != lo {
			t.Errorf("max, min of %#x, %#x = %#x, %#x", c.a, c.b, seqMax(c.a, c.b), seqMin(c.a, c.b))
		}
	}
	if !seqIn(0xffffffff, 0xfffffff0, 5) || !seqIn(4, 0xfffffff0, 5) || seqIn(5, 0xfffffff0, 5) || seqIn(3, 3, 3) {
		t.Error("seqIn across the wrap")
	}
}

func TestParseHeader(t *testing.T) {
	b := make([]byte, 24)
	putHeader(b, 1000, 2000, 0x01020304, 0xa0b0c0d0, FlagACK|FlagPSH, 0x1234)
	b[18], b[19] = 7, 8
	copy(b[20:], []byte{1, 1, 1, 0})
	var s Segment
	n, err := s.Parse(b, 124)
	if n != 24 || err != nil {
		t.Fatalf("Parse = %d, %v", n, err)
	}
	want := Segment{Seq: 0x01020304, Ack: 0xa0b0c0d0, Wnd: 0x1234, Urg: 0x708, Flags: FlagACK | FlagPSH, Len: 100, Opt: Options{WScale: -1}}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("Parse = %+v\nwant    %+v", s, want)
	}
	if src, dst := Ports(b); src != 1000 || dst != 2000 {
		t.Errorf("Ports = %d, %d", src, dst)
	}
	if s.End() != s.Seq+100 {
		t.Errorf("End = %#x", s.End())
	}
	s.Flags |= FlagSYN | FlagFIN
	if s.End() != s.Seq+102 {
		t.Errorf("End with SYN and FIN = %#x", s.End())
	}

	for _, c := range []struct {
		name  string
		have  int
		l4len int
		off   byte
		want  error
	}{
		{"no bytes", 0, 0, 0, ErrShort},
		{"19 bytes", 19, 19, 5, ErrShort},
		{"IP says less than a header", 60, 19, 5, ErrShort},
		{"offset 0", 60, 60, 0, ErrOffset},
		{"offset 4", 60, 60, 4, ErrOffset},
		{"offset beyond the segment", 60, 40, 11, ErrShort},
		{"offset beyond the first piece", 24, 60, 7, ErrShort},
		{"largest offset", 60, 60, 15, nil},
	} {
		h := make([]byte, 60)
		h[12] = c.off << 4
		if _, err := s.Parse(h[:c.have], c.l4len); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestParseOptions(t *testing.T) {
	ts := []byte{8, 10, 1, 2, 3, 4, 5, 6, 7, 8}
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for _, c := range []struct {
		name string
		b    []byte
		syn  bool
		want Options
	}{
		{"none", nil, true, Options{WScale: -1}},
		{"aligned timestamps", cat([]byte{1, 1}, ts), false, Options{WScale: -1, HasTS: true, TSVal: 0x01020304, TSEcr: 0x05060708}},
		{"timestamps elsewhere", cat(ts, []byte{0, 9}), false, Options{WScale: -1, HasTS: true, TSVal: 0x01020304, TSEcr: 0x05060708}},
		{"Linux's SYN", cat([]byte{2, 4, 5, 0xb4, 4, 2}, ts, []byte{1, 3, 3, 7}), true,
			Options{MSS: 1460, WScale: 7, SACKPermitted: true, HasTS: true, TSVal: 0x01020304, TSEcr: 0x05060708}},
		{"SYN's options elsewhere", []byte{2, 4, 5, 0xb4, 4, 2, 1, 3, 3, 7}, false, Options{WScale: -1}},
		{"shift above 14 is 14 (RFC 7323 section 2.3)", []byte{3, 3, 255}, true, Options{WScale: 14}},
		{"length 0 ends", []byte{2, 4, 5, 0xb4, 99, 0, 4, 2}, true, Options{MSS: 1460, WScale: -1}},
		{"length 1 ends", []byte{2, 4, 5, 0xb4, 99, 1, 4, 2}, true, Options{MSS: 1460, WScale: -1}},
		{"overrun ends", []byte{2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2}, true, Options{MSS: 1460, WScale: -1, SACKPermitted: true}},
		{"overrun by one byte", []byte{2, 4, 5}, true, Options{WScale: -1}},
		{"kind without length", []byte{4, 2, 3}, true, Options{WScale: -1, SACKPermitted: true}},
		{"unknown kind is skipped", []byte{253, 4, 1, 2, 4, 2}, true, Options{WScale: -1, SACKPermitted: true}},
		{"wrong lengths are skipped", []byte{2, 3, 5, 3, 4, 7, 7, 4, 3, 0, 8, 9, 1, 2, 3, 4, 5, 6, 7, 4, 2}, true, Options{WScale: -1, SACKPermitted: true}},
		{"end", []byte{0, 4, 2}, true, Options{WScale: -1}},
		{"two SACK blocks", []byte{1, 1, 5, 18, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4}, false,
			Options{WScale: -1, NSACK: 2, SACK: [4]SACKBlock{{1, 2}, {3, 4}}}},
		{"SACK of 12 bytes", []byte{1, 1, 5, 12, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0}, false, Options{WScale: -1}},
		{"SACK without blocks", []byte{5, 2}, false, Options{WScale: -1}},
		{"SACK in a SYN", []byte{5, 10, 0, 0, 0, 1, 0, 0, 0, 2}, true, Options{WScale: -1}},
	} {
		var got Options
		if got.Parse(c.b, c.syn); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

// Nothing that one segment carried may show in the next.
func TestParseResets(t *testing.T) {
	var o Options
	o.Parse([]byte{2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 3, 3, 7}, true)
	o.Parse([]byte{5, 10, 0, 0, 0, 1, 0, 0, 0, 2}, false)
	if o.MSS != 0 || o.WScale != -1 || o.SACKPermitted || o.HasTS || o.NSACK != 1 {
		t.Errorf("left over: %+v", o)
	}
	o.Parse(nil, false)
	if o.NSACK != 0 {
		t.Errorf("left over: %+v", o)
	}
}

func TestPutSYNOptions(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want []byte
	}{
		{Options{WScale: -1}, nil},
		{Options{MSS: 1460, WScale: -1}, []byte{2, 4, 5, 0xb4}},
		// As Linux sends them, byte for byte.
		{Options{MSS: 1460, SACKPermitted: true, HasTS: true, TSVal: 1, TSEcr: 2, WScale: 7},
			[]byte{2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 3, 3, 7}},
		{Options{MSS: 1460, HasTS: true, TSVal: 1, TSEcr: 2, WScale: -1},
			[]byte{2, 4, 5, 0xb4, 1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}},
		{Options{MSS: 1460, SACKPermitted: true, WScale: 0},
			[]byte{2, 4, 5, 0xb4, 1, 1, 4, 2, 1, 3, 3, 0}},
	} {
		b := make([]byte, maxOptions)
		n := putSYNOptions(b, &c.o)
		if !bytes.Equal(b[:n], c.want) {
			t.Errorf("%+v: % x, want % x", c.o, b[:n], c.want)
		}
	}
}

func TestPutSACK(t *testing.T) {
	blocks := []SACKBlock{{1, 2}, {3, 4}, {5, 6}, {7, 8}, {9, 10}}
	for _, c := range []struct{ room, n, want int }{
		{40, 0, 0}, {40, 1, 12}, {40, 4, 36}, {40, 5, 36}, {28, 4, 28}, {11, 4, 0}, {0, 4, 0},
	} {
		b := make([]byte, c.room)
		if n := putSACK(b, blocks[:c.n]); n != c.want {
			t.Errorf("%d blocks in %d bytes: %d, want %d", c.n, c.room, n, c.want)
		} else if n > 0 {
			var o Options
			if o.Parse(b, false); int(o.NSACK) != (n-4)/8 || o.SACK[0] != blocks[0] || o.SACK[o.NSACK-1] != blocks[o.NSACK-1] {
				t.Errorf("%d blocks in %d bytes come back as %+v", c.n, c.room, o)
			}
		}
	}
}

func FuzzParseSegment(f *testing.F) {
	f.Add(make([]byte, 20), 20)
	h := make([]byte, 60)
	putHeader(h, 1, 2, 3, 4, FlagSYN, 5)
	n := putSYNOptions(h[20:], &Options{MSS: 1460, SACKPermitted: true, HasTS: true, WScale: 7})
	f.Add(h[:20+n], 20+n)
	f.Add(h, 1500)
	f.Fuzz(func(t *testing.T, b []byte, l4len int) {
		var s Segment
		n, err := s.Parse(b, l4len)
		if err != nil {
			return
		}
		if n < headerSize || n > len(b) || n+s.Len != l4len || s.Len < 0 {
			t.Fatalf("header %d, payload %d of %d", n, s.Len, l4len)
		}
		// A segment that we write reads as the same.
		w := make([]byte, n)
		src, dst := Ports(b)
		putHeader(w, src, dst, s.Seq, s.Ack, s.Flags, s.Wnd)
		copy(w[headerSize:], b[headerSize:n])
		var r Segment
		if _, err := r.Parse(w, l4len); err != nil {
			t.Fatal(err)
		}
		r.Urg = s.Urg
		if !reflect.DeepEqual(r, s) {
			t.Fatalf("%+v\nreads as %+v", s, r)
		}
	})
}

func FuzzOptions(f *testing.F) {
	f.Add([]byte{2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 3, 3, 7}, true)
	f.Add([]byte{1, 1, 5, 18, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4}, false)
	f.Add([]byte{8, 0, 8, 1, 8}, true)
	f.Add([]byte{2, 4, 5, 0xb4, 34, 2, 3, 3, 7}, true)
	f.Add([]byte{34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 4, 2, 3, 3, 14}, true)
	f.Fuzz(func(t *testing.T, b []byte, syn bool) {
		var o Options
		o.Parse(b, syn)
		if o.NSACK > maxSACK || o.WScale < -1 || o.WScale > maxWScale {
			t.Fatalf("%+v", o)
		}
		if !syn && (o.MSS != 0 || o.WScale != -1 || o.SACKPermitted) {
			t.Fatalf("options of a SYN elsewhere: %+v", o)
		}
		w := make([]byte, maxOptions)
		var n int
		if syn {
			n = putSYNOptions(w, &o)
		} else {
			if o.HasTS {
				n = putTimestamps(w, o.TSVal, o.TSEcr)
			}
			k := putSACK(w[n:], o.SACK[:o.NSACK])
			n += k
			o.NSACK = uint8(max(k-4, 0) / 8)
			clear(o.SACK[o.NSACK:])
		}
		if n%4 != 0 || n > maxOptions {
			t.Fatalf("%d bytes of options", n)
		}
		if !o.HasTS {
			o.TSVal, o.TSEcr = 0, 0
		}
		if o.FastOpen == 0 {
			o.FastOpenCookie = [maxFastOpen]byte{}
		}
		var r Options
		if r.Parse(w[:n], syn); r != o {
			t.Fatalf("%+v\nreads as %+v", o, r)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	h := make([]byte, 32)
	putHeader(h, 1, 2, 3, 4, FlagACK, 5)
	putTimestamps(h[20:], rand.Uint32(), 7)
	var s Segment
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Parse(h, 1480); err != nil {
			b.Fatal(err)
		}
	}
}
