package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/testlong"
	onloadnet "github.com/onload-go/onload/net"
)

// TestCaptureCost measures, with -long, what a capture of everything costs a server over
// AF_XDP: requests of 64 bytes, answered alike, of clients of the kernel, with a capture
// and without it in turns. It reports the median of the ratios.
func TestCaptureCost(t *testing.T) {
	if !testlong.Enabled() {
		t.Skip("a measurement: -long")
	}
	p := lab.NewPair(t, lab.Options{})
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	e, err := onloadnet.New(onloadnet.Config{NetNS: p.A.Path, Interfaces: []string{p.A.If}})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	ln, err := e.Listen("tcp", net.JoinHostPort(p.A.Addr4.String(), "0"))
	if err != nil {
		t.Fatal(err)
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
				b := make([]byte, 64)
				for {
					if _, err := io.ReadFull(c, b); err != nil {
						return
					}
					if _, err := c.Write(b); err != nil {
						return
					}
				}
			}()
		}
	}()
	for _, conns := range []int{1, 100, 1000} {
		var done atomic.Uint64
		var clients sync.WaitGroup
		var open []net.Conn
		for range conns {
			c, err := p.B.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, c)
			clients.Go(func() {
				b := make([]byte, 64)
				for {
					if _, err := c.Write(b); err != nil {
						return
					}
					if _, err := io.ReadFull(c, b); err != nil {
						return
					}
					done.Add(1)
				}
			})
		}
		rate := func() float64 {
			time.Sleep(50 * time.Millisecond)
			from, n := time.Now(), done.Load()
			time.Sleep(300 * time.Millisecond)
			return float64(done.Load()-n) / time.Since(from).Seconds()
		}
		var ratios, plain []float64
		var packets, lost uint64
		last := rate()
		for range 15 {
			o, err := captureArgs([]string{"-p", fmt.Sprint(os.Getpid()), "-B", "16384"})
			if err != nil {
				t.Fatal(err)
			}
			c, err := openCapture(o)
			if err != nil {
				t.Fatal(err)
			}
			ctx, stop := context.WithCancel(context.Background())
			ended := make(chan uint64)
			go func() {
				n, _ := c.run(ctx, io.Discard, o)
				ended <- n
			}()
			with := rate()
			stop()
			packets += <-ended
			lost += c.in.Lost()
			c.close()
			next := rate()
			ratios, plain = append(ratios, with/((last+next)/2)), append(plain, next)
			last = next
		}
		slices.Sort(ratios)
		slices.Sort(plain)
		t.Logf("%d connections: %.0f requests/s, with a capture %.3f (%.3f to %.3f) of them; %d packets, %d lost",
			conns, plain[len(plain)/2], ratios[len(ratios)/2], ratios[0], ratios[len(ratios)-1], packets, lost)
		for _, c := range open {
			_ = c.Close()
		}
		clients.Wait()
	}
}
