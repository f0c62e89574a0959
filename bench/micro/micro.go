// Package micro holds the benchmarks that need no network: two engines joined
// by a link in memory, in one process.
package micro

import (
	"flag"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/onload-go/onload/bench/report"
	onload "github.com/onload-go/onload/net"
)

// Benchmark is one of them.
type Benchmark struct {
	Name string
	Run  func(*testing.B)
}

// All lists them.
func All() []Benchmark {
	return []Benchmark{
		{"tcp-rtt/size=1", func(b *testing.B) { tcpRTT(b, 1) }},
		{"tcp-rtt/size=1024", func(b *testing.B) { tcpRTT(b, 1024) }},
		{"udp-rtt/size=1", func(b *testing.B) { udpRTT(b, 1) }},
		{"bulk/mtu=1500", func(b *testing.B) { bulk(b, 1500) }},
		{"bulk/mtu=9000", func(b *testing.B) { bulk(b, 9000) }},
		{"connect-close", connectClose},
	}
}

// Run runs all for about d each.
func Run(d time.Duration, progress func(report.Micro)) ([]report.Micro, error) {
	if flag.Lookup("test.benchtime") == nil {
		testing.Init()
	}
	if err := flag.Set("test.benchtime", d.String()); err != nil {
		return nil, err
	}
	var ms []report.Micro
	for _, bm := range All() {
		res := testing.Benchmark(bm.Run)
		if res.N == 0 {
			return ms, fmt.Errorf("%s failed", bm.Name)
		}
		m := report.Micro{Name: bm.Name, N: res.N, NsPerOp: float64(res.T.Nanoseconds()) / float64(res.N),
			AllocsPerOp: res.AllocsPerOp(), BytesO: res.AllocedBytesPerOp(), Extra: res.Extra}
		if res.Bytes > 0 {
			m.MBPerS = float64(res.Bytes) * float64(res.N) / 1e6 / res.T.Seconds()
		}
		progress(m)
		ms = append(ms, m)
	}
	return ms, nil
}

// pair is two engines that reach each other at 10.0.0.1 and 10.0.0.2.
func pair(b *testing.B, mtu int) (*onload.Engine, *onload.Engine) {
	// Both ends are in one process and wait for each other: balanced, the
	// default, since two that spin long fight for the processors.
	c := onload.MemoryConfig{MTU: mtu, Config: onload.Config{Profile: onload.Balanced}}
	x, y, err := onload.NewMemoryPair(c, c)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { x.Close(); y.Close() })
	return x, y
}

// connected returns a client's connection to a server that f runs.
func connected(b *testing.B, mtu int, f func(net.Conn)) net.Conn {
	x, y := pair(b, mtu)
	l, err := y.Listen("tcp", "10.0.0.2:80")
	if err != nil {
		b.Fatal(err)
	}
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		f(c)
	}()
	c, err := x.Dial("tcp", "10.0.0.2:80")
	if err != nil {
		b.Fatal(err)
	}
	// A benchmark that hangs fails.
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		b.Fatal(err)
	}
	return c
}

func tcpRTT(b *testing.B, size int) {
	c := connected(b, 1500, func(c net.Conn) {
		p := make([]byte, size)
		for {
			if _, err := io.ReadFull(c, p); err != nil {
				return
			}
			if _, err := c.Write(p); err != nil {
				return
			}
		}
	})
	defer c.Close()
	p := make([]byte, size)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(p); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(c, p); err != nil {
			b.Fatal(err)
		}
	}
}

func udpRTT(b *testing.B, size int) {
	x, y := pair(b, 1500)
	s, err := y.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 80})
	if err != nil {
		b.Fatal(err)
	}
	go func() {
		p := make([]byte, 2048)
		for {
			n, from, err := s.ReadFromUDPAddrPort(p)
			if err != nil {
				return
			}
			if _, err := s.WriteToUDPAddrPort(p[:n], from); err != nil {
				return
			}
		}
	}()
	defer s.Close()
	c, err := x.Dial("udp", "10.0.0.2:80")
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		b.Fatal(err)
	}
	p := make([]byte, size)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Write(p); err != nil {
			b.Fatal(err)
		}
		if _, err := c.Read(p); err != nil {
			b.Fatal(err)
		}
	}
}

// bulk writes 64 KiB an operation; the time ends when the reader has all.
func bulk(b *testing.B, mtu int) {
	const chunk = 64 << 10
	done := make(chan int64, 1)
	c := connected(b, mtu, func(c net.Conn) {
		var n int64
		p := make([]byte, chunk)
		for {
			k, err := c.Read(p)
			n += int64(k)
			if err != nil {
				done <- n
				return
			}
		}
	})
	p := make([]byte, chunk)
	b.SetBytes(chunk)
	b.ReportAllocs()
	var sent int64
	b.ResetTimer()
	for range b.N {
		n, err := c.Write(p)
		if err != nil {
			b.Fatal(err)
		}
		sent += int64(n)
	}
	if err := c.Close(); err != nil {
		b.Fatal(err)
	}
	if got := <-done; got != sent {
		b.Fatalf("%d bytes arrived of %d", got, sent)
	}
}

// connectClose opens and closes a connection, without data.
func connectClose(b *testing.B) {
	x, y := pair(b, 1500)
	l, err := y.Listen("tcp", "10.0.0.2:80")
	if err != nil {
		b.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(io.Discard, c)
				c.Close()
			}()
		}
	}()
	defer l.Close()
	b.ReportAllocs()
	for b.Loop() {
		c, err := x.Dial("tcp", "10.0.0.2:80")
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
