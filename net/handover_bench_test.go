package onload_test

import (
	"fmt"
	"net"
	"testing"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// BenchmarkFile is what a hand-over to the kernel takes, of a connection at rest and of
// one with so many unread bytes, which are copied twice: into the state, and into the
// kernel's queue.
func BenchmarkFile(b *testing.B) {
	p := lab.NewPair(b, lab.Options{})
	e := vethEngine(b, p.A, onload.Config{})
	l, err := p.B.Listen("tcp", net.JoinHostPort(p.B.Addr4.String(), "0"))
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	for _, unread := range []int{0, 32 << 10} {
		b.Run(fmt.Sprint(unread, " unread"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				c, err := e.Dial("tcp", l.Addr().String())
				if err != nil {
					b.Fatal(err)
				}
				peer, err := l.Accept()
				if err != nil {
					b.Fatal(err)
				}
				if _, err := peer.Write(make([]byte, unread)); err != nil {
					b.Fatal(err)
				}
				for n := 0; n < unread; {
					i, err := c.(*onload.TCPConn).Info()
					if err != nil {
						b.Fatal(err)
					}
					n = i.Unread
				}
				b.StartTimer()
				f, err := c.(*onload.TCPConn).File()
				b.StopTimer()
				if err != nil {
					b.Fatal(err)
				}
				f.Close()
				c.Close()
				peer.Close()
				b.StartTimer()
			}
		})
	}
}
