package onload_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// cpuTime is what this process has used of processors.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// pipe returns both ends of a connection from one host to address of another.
func pipe(b *testing.B, from, to host, address string) (client, server net.Conn) {
	b.Helper()
	l, err := to.Listen("tcp", address+":0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	if client, err = from.Dial("tcp", l.Addr().String()); err != nil {
		b.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}

// measureBytes runs once, which moves size bytes, and reports the processor
// time of both ends for each KiB.
func measureBytes(b *testing.B, size int64, once func()) {
	once()
	b.SetBytes(size)
	b.ReportAllocs()
	begin := cpuTime(b)
	for b.Loop() {
		once()
	}
	b.ReportMetric(float64(cpuTime(b)-begin)/float64(b.N)/float64(size>>10), "cpu-ns/KiB")
}

// copyWays are the ways of a byte between two connections, or from a file: by the
// frames it came in, or through a buffer, as for a program that hides the types of
// r and w.
var copyWays = []struct {
	name   string
	kernel bool
	copy   func(w io.Writer, r io.Reader) (int64, error)
}{
	{"frames", false, io.Copy},
	{"buffer", false, func(w io.Writer, r io.Reader) (int64, error) {
		return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, make([]byte, 64<<10))
	}},
	{"kernel", true, io.Copy},
}

// BenchmarkCopyVeth: a kernel peer's stream comes back to it through a proxy.
func BenchmarkCopyVeth(b *testing.B) {
	const size = 256 << 20
	for _, mtu := range []int{1500, 65535} {
		for _, way := range copyWays {
			b.Run(fmt.Sprintf("mtu=%d/%s", mtu, way.name), func(b *testing.B) {
				p := lab.NewPair(b, lab.Options{MTU: mtu})
				var h host = p.A
				if !way.kernel {
					h = vethEngine(b, p.A, onload.Config{})
				}
				in, out := pipe(b, p.B, h, p.A.Addr4.String())
				back, sink := pipe(b, h, p.B, p.B.Addr4.String())
				go way.copy(back, out)
				buf := make([]byte, 1<<20)
				measureBytes(b, size, func() {
					go func() {
						for n := 0; n < size; n += len(buf) {
							in.Write(buf)
						}
					}()
					if _, err := io.CopyN(io.Discard, struct{ io.Reader }{sink}, size); err != nil {
						b.Fatal(err)
					}
				})
			})
		}
	}
}

// copyingListener's connections copy in the way given.
type copyingListener struct {
	net.Listener
	copy func(w io.Writer, r io.Reader) (int64, error)
}

func (l copyingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return copyingConn{c, l.copy}, err
}

type copyingConn struct {
	net.Conn
	copy func(w io.Writer, r io.Reader) (int64, error)
}

func (c copyingConn) ReadFrom(r io.Reader) (int64, error) { return c.copy(c.Conn, r) }

// BenchmarkFileVeth: http.FileServer to a kernel peer.
func BenchmarkFileVeth(b *testing.B) {
	const size = 300 << 20
	name := filepath.Join(b.TempDir(), "file")
	if err := os.WriteFile(name, make([]byte, size), 0o600); err != nil {
		b.Fatal(err)
	}
	for _, mtu := range []int{1500, 65535} {
		for _, way := range copyWays {
			b.Run(fmt.Sprintf("mtu=%d/%s", mtu, way.name), func(b *testing.B) {
				p := lab.NewPair(b, lab.Options{MTU: mtu})
				var h host = p.A
				if !way.kernel {
					h = vethEngine(b, p.A, onload.Config{})
				}
				l, err := h.Listen("tcp", p.A.Addr4.String()+":0")
				if err != nil {
					b.Fatal(err)
				}
				defer l.Close()
				go http.Serve(copyingListener{l, way.copy}, http.FileServer(http.Dir(filepath.Dir(name))))
				client := http.Client{Transport: &http.Transport{
					DialContext: func(_ context.Context, network, address string) (net.Conn, error) {
						return p.B.Dial(network, address)
					},
				}}
				defer client.CloseIdleConnections()
				buf := make([]byte, 256<<10)
				measureBytes(b, size, func() {
					r, err := client.Get("http://" + l.Addr().String() + "/file")
					if err != nil {
						b.Fatal(err)
					}
					n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r.Body}, buf)
					if n != size || err != nil {
						b.Fatal(n, err)
					}
					r.Body.Close()
				})
			})
		}
	}
}

// BenchmarkEchoMemory: a round trip to a server that is io.Copy, by a link in
// memory.
func BenchmarkEchoMemory(b *testing.B) {
	for _, size := range []int{1, 1000, 16 << 10, 256 << 10} {
		for _, way := range copyWays[:2] {
			b.Run(fmt.Sprintf("size=%d/%s", size, way.name), func(b *testing.B) {
				x, y := memoryPair(b)
				c, s := tcpPipe(b, x, y)
				go way.copy(s, s)
				buf := make([]byte, size)
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := c.Write(buf); err != nil {
						b.Fatal(err)
					}
					if _, err := io.ReadFull(c, buf); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
