package onload_test

import (
	"fmt"
	"io"
	"math/rand"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/testlong"
	onload "github.com/onload-go/onload/net"
)

// A randomCall is a call of a random sequence: c is the connection that is
// compared, s its peer's, a kernel socket.
type randomCall struct {
	name string
	do   func(c tcpConn, s *net.TCPConn, n int, wait time.Duration) []any
}

var randomCalls = []randomCall{
	{"c.Write", func(c tcpConn, _ *net.TCPConn, n int, _ time.Duration) []any { return write(c, 7*n) }},
	{"s.Write", func(_ tcpConn, s *net.TCPConn, n int, _ time.Duration) []any { return write(s, 7*n) }},
	{"c.Read", func(c tcpConn, _ *net.TCPConn, n int, wait time.Duration) []any { return read(c, 5*n, wait) }},
	{"c.Read", func(c tcpConn, _ *net.TCPConn, n int, wait time.Duration) []any { return read(c, 5*n, wait) }},
	{"s.Read", func(_ tcpConn, s *net.TCPConn, n int, wait time.Duration) []any { return read(s, 5*n, wait) }},
	{"c.CloseWrite", func(c tcpConn, _ *net.TCPConn, _ int, _ time.Duration) []any { return []any{c.CloseWrite()} }},
	{"c.CloseRead", func(c tcpConn, _ *net.TCPConn, _ int, _ time.Duration) []any { return []any{c.CloseRead()} }},
	{"s.CloseWrite", func(_ tcpConn, s *net.TCPConn, _ int, _ time.Duration) []any { return []any{s.CloseWrite()} }},
	{"s.CloseRead", func(_ tcpConn, s *net.TCPConn, _ int, _ time.Duration) []any { return []any{s.CloseRead()} }},
	{"s.Close, in order or by a reset", func(_ tcpConn, s *net.TCPConn, n int, _ time.Duration) []any {
		if n%2 == 0 {
			_ = s.SetLinger(0)
		}
		return []any{s.Close()}
	}},
	{"c.Close", func(c tcpConn, _ *net.TCPConn, n int, _ time.Duration) []any {
		if n%3 != 0 {
			return nil
		}
		return []any{c.Close()}
	}},
	{"c.SetLinger", func(c tcpConn, _ *net.TCPConn, n int, _ time.Duration) []any { return []any{c.SetLinger(n%3 - 1)} }},
	{"c.SetDeadline", func(c tcpConn, _ *net.TCPConn, n int, _ time.Duration) []any {
		return []any{c.SetDeadline(pastOrNone(n))}
	}},
	{"c.SetWriteDeadline", func(c tcpConn, _ *net.TCPConn, n int, _ time.Duration) []any {
		return []any{c.SetWriteDeadline(pastOrNone(n))}
	}},
	{"c.ReadFrom", func(c tcpConn, _ *net.TCPConn, n int, _ time.Duration) []any {
		m, err := c.ReadFrom(strings.NewReader(strings.Repeat("x", n)))
		return []any{m, err}
	}},
	{"c.WriteTo", func(c tcpConn, _ *net.TCPConn, _ int, wait time.Duration) []any {
		_ = c.SetReadDeadline(time.Now().Add(wait)) // as read
		m, err := c.WriteTo(io.Discard)
		return []any{m, err}
	}},
	{"options of c", func(c tcpConn, _ *net.TCPConn, n int, _ time.Duration) []any {
		return []any{c.SetNoDelay(n%2 == 0), c.SetKeepAlive(n%2 == 0), c.SetReadBuffer(n * 1000), c.SetKeepAlivePeriod(time.Duration(n-3) * time.Second)}
	}},
}

func pastOrNone(n int) time.Time {
	if n%2 == 0 {
		return past
	}
	return time.Time{}
}

func write(c net.Conn, n int) []any {
	m, err := c.Write(make([]byte, n))
	return []any{m, err}
}

func read(c net.Conn, n int, wait time.Duration) []any {
	_ = c.SetReadDeadline(time.Now().Add(wait)) // its error is the Read's
	m, err := c.Read(make([]byte, n))
	return []any{m, err}
}

// playRandom makes the calls that seed says on a new connection, and returns
// what each gave. Between two calls it waits, so that the peer's packets come.
func playRandom(l *errorLab, seed int64, wait time.Duration) (seen []string) {
	r := rand.New(rand.NewSource(seed))
	c, s := l.tcp()
	defer c.Close()
	defer s.Close()
	note := func(name string, results []any) {
		for i, x := range results {
			if err, ok := x.(error); ok || x == nil {
				results[i] = describe(err)
			}
		}
		seen = append(seen, fmt.Sprint(name, results))
		time.Sleep(wait)
	}
	for range 3 + r.Intn(9) {
		call, n := randomCalls[r.Intn(len(randomCalls))], r.Intn(9)
		note(fmt.Sprintf("%s %d: ", call.name, n), call.do(c, s, n, 4*wait))
	}
	for range 3 {
		note("c.Read at the end: ", read(c, 1000, 4*wait))
		note("s.Read at the end: ", read(s, 1000, 4*wait))
	}
	return seen
}

// TestRandomCalls: random sequences of calls give on a connection of ours what
// they give on the kernel's: counts, errors and their texts. Where they differ
// they are played again, more slowly: a busy machine delivers late, and neither
// is at fault then.
func TestRandomCalls(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{Logger: zap.NewNop()})
	first := testlong.Pick(1, time.Now().UnixNano())
	var next, failed atomic.Int64
	var players sync.WaitGroup
	for range 16 {
		players.Go(func() {
			for i := next.Add(1); i <= testlong.Pick[int64](200, 10_000) && failed.Load() < 5; i = next.Add(1) {
				play := func(h errorHost, wait time.Duration) string {
					l := &errorLab{t: t, h: h, b: p.B, self: p.A.Addr4.String(), peer: p.B.Addr4.String()}
					return strings.Join(playRandom(l, first+i, wait), "\n")
				}
				var kernels, ours string
				for wait := 2 * time.Millisecond; wait < time.Second; wait *= 3 {
					if kernels, ours = play(stdHost{p.A}, wait), play(onloadHost{e}, wait); kernels == ours {
						break
					}
				}
				if kernels != ours {
					failed.Add(1)
					t.Errorf("seed %d: the kernel's connection:\n%s\n\nours:\n%s", first+i, kernels, ours)
				}
			}
		})
	}
	players.Wait()
}
