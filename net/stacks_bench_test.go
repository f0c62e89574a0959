package onload_test

import (
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// BenchmarkStacks is requests and answers of 64 bytes over a veth of two queues in
// native mode, where each packet comes by the queue that it was sent to, both
// ends in this process, by so many connections at once and one stack, or two, on each
// end.
func BenchmarkStacks(b *testing.B) {
	for _, stacks := range []int{1, 2} {
		for _, conns := range []int{32, 1000} {
			b.Run(fmt.Sprintf("stacks=%d/conns=%d", stacks, conns), func(b *testing.B) {
				p := lab.NewPair(b, lab.Options{Queues: 2})
				cfg := onload.Config{Mode: onload.ModeNative, Stacks: stacks, Logger: zap.NewNop()}
				client, server := vethEngine(b, p.A, cfg), vethEngine(b, p.B, cfg)
				requests(b, client, server, net.JoinHostPort(p.B.Addr4.String(), "0"), conns)
				st := client.Stats()[p.A.If]
				b.ReportMetric(float64(st.HandOvers)/float64(b.N), "handovers/op")
			})
		}
	}
}

// requests has conns connections make b.N requests in all.
func requests(b *testing.B, client, server host, at string, conns int) {
	ln, err := server.Listen("tcp", at)
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
			}()
		}
	}()
	var cs []net.Conn
	for range conns {
		c, err := client.Dial("tcp", ln.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		cs = append(cs, c)
	}
	var left atomic.Int64
	left.Store(int64(b.N))
	var wg sync.WaitGroup
	b.ResetTimer()
	for _, c := range cs {
		wg.Go(func() {
			p := make([]byte, 64)
			for left.Add(-1) >= 0 {
				if _, err := c.Write(p); err != nil {
					b.Error(err)
					return
				}
				if _, err := io.ReadFull(c, p); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.StopTimer()
}
