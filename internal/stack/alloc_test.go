package stack

import (
	"io"
	"testing"
	"unsafe"

	"github.com/onload-go/onload/internal/allocs"
)

// TestTCPAllocs: neither Read, Write nor the protocol between them allocates,
// for small and for large pieces.
func TestTCPAllocs(t *testing.T) {
	for _, size := range []int{1, 1000, 64 << 10} {
		a, b := newPair(t, pairOptions{profile: Latency})
		c, s := connect(t, a, b, addrB)
		out, in := make([]byte, size), make([]byte, size)
		trip := func() {
			if _, err := c.Write(out); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(s, in); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Write(in); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c, out); err != nil {
				t.Fatal(err)
			}
		}
		for range 100 {
			trip()
		}
		if n := allocs.PerRun(500, trip); n != 0 {
			t.Errorf("a round trip of %d bytes allocates %v times", size, n)
		}
	}
}

// TestConnSize: a connection that only exists costs less than 1 KiB of ours. Above
// 760 bytes, to which the runtime adds eight, a TCPConn takes 896. So fields that
// few connections need are behind a pointer (tcp.Conn.rare).
func TestConnSize(t *testing.T) {
	if n := unsafe.Sizeof(TCPConn{}); n > 760 {
		t.Errorf("a TCPConn has %d bytes, want at most 760", n)
	}
	a, b := newPair(t, pairOptions{profile: Throughput})
	used := func() int { st := a.Stats(); return st.Frames - st.FreeFrames }
	before := used()
	for range 100 {
		connect(t, a, b, addrB)
	}
	if n := used(); n > before {
		t.Errorf("100 idle connections hold %d frames", n-before)
	}
}

func BenchmarkTCPRoundTrip(b *testing.B) {
	x, y := newPair(b, pairOptions{profile: Latency})
	c, s := connect(b, x, y, addrB)
	buf := make([]byte, 1)
	b.ReportAllocs()
	for b.Loop() {
		c.Write(buf)
		s.Read(buf)
		s.Write(buf)
		c.Read(buf)
	}
}
