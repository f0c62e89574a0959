package onload

import (
	"fmt"
	"testing"
)

// benchPair connects two engines by a link in memory.
func benchPair(b *testing.B, p Profile) (c, s Conn) {
	b.Helper()
	cfg := MemoryConfig{Config: Config{Profile: p}}
	x, y, err := NewMemoryPair(cfg, cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { x.Close(); y.Close() })
	l, err := y.Listen("tcp", "10.0.0.2:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	got := make(chan Conn, 1)
	go func() {
		s, err := l.Accept()
		if err != nil {
			b.Error(err)
		}
		got <- s
	}()
	if c, err = x.Dial("tcp", l.Addr().String()); err != nil {
		b.Fatal(err)
	}
	return c, <-got
}

// BenchmarkRoundTrip: 1 byte there and back over TCP in memory, both ends
// driven by one goroutine.
func BenchmarkRoundTrip(b *testing.B) {
	c, s := benchPair(b, Latency)
	buf := make([]byte, 1)
	b.ReportAllocs()
	for b.Loop() {
		c.Write(buf)
		s.Read(buf)
		s.Write(buf)
		c.Read(buf)
	}
}

// BenchmarkRoundTripBlocking: the same with a goroutine for each end.
func BenchmarkRoundTripBlocking(b *testing.B) {
	for _, p := range []Profile{Latency, Balanced, Throughput} {
		b.Run(p.String(), func(b *testing.B) {
			c, s := benchPair(b, p)
			go func() {
				buf := make([]byte, 1)
				for {
					if _, err := s.Read(buf); err != nil {
						return
					}
					if _, err := s.Write(buf); err != nil {
						return
					}
				}
			}()
			buf := make([]byte, 1)
			b.ReportAllocs()
			for b.Loop() {
				c.Write(buf)
				c.Read(buf)
			}
		})
	}
}

// BenchmarkRoundTripFresh: 64 bytes there and back; each Write is done by a
// goroutine that was started for it, as in net/http's HTTP/2, and has so many
// bytes of stack in use above.
func BenchmarkRoundTripFresh(b *testing.B) {
	for _, above := range []int{0, 1024, 2048} {
		b.Run(fmt.Sprint("above=", above), func(b *testing.B) {
			c, s := benchPair(b, Latency)
			buf := make([]byte, 64)
			done := make(chan struct{}, 1)
			hop := func(from, to Conn) {
				go func() {
					below(above, func() { from.Write(buf) })
					done <- struct{}{}
				}()
				<-done
				to.Read(buf)
			}
			b.ReportAllocs()
			for b.Loop() {
				hop(c, s)
				hop(s, c)
			}
		})
	}
}

// below calls fn below n bytes of stack.
func below(n int, fn func()) byte {
	if n <= 0 {
		fn()
		return 0
	}
	var frame [256]byte
	frame[n%len(frame)] = 1
	return frame[(n+1)%len(frame)] + below(n-len(frame), fn)
}
