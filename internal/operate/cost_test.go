package operate

import (
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

const (
	costConns  = 1000
	costSlice  = 2 * time.Second
	costRounds = 9
)

// BenchmarkCost: requests a second of a server with 1,000 connections over AF_XDP, all of
// them busy, while commands ask it each second, as a ratio to those while nobody does: the
// median of interleaved slices. The program onload takes its time from the same two
// processors.
//
//	go test ./internal/operate -run - -bench Cost -benchtime 1x
func BenchmarkCost(b *testing.B) {
	tool := filepath.Join(b.TempDir(), "onload")
	if out, err := exec.Command("go", "build", "-o", tool, "github.com/onload-go/onload/cmd/onload").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	p := lab.NewPair(b, lab.Options{})
	e, err := onload.New(onload.Config{NetNS: p.A.Path, Interfaces: []string{p.A.If}})
	if err != nil {
		b.Fatal(err)
	}
	defer e.Close()
	requests, stop := load(b, e, p)
	defer stop()
	pid := self()
	ask := func(args ...string) {
		if out, err := exec.Command(tool, args...).CombinedOutput(); err != nil {
			b.Errorf("%v: %v\n%s", args, err, out)
		}
	}
	for name, each := range map[string]func(){
		"ss":   func() { ask("ss", "-ti", "--pid", pid) },
		"stat": func() { ask("stat", "-p", pid) },
		"both": func() { ask("ss", "-ti", "--pid", pid); ask("stat", "-p", pid) },
		"top":  func() { ask("top", "-n", "1", "-i", "900ms", "-p", pid) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				var ratios []float64
				for range costRounds {
					off := slice(requests, nil)
					on := slice(requests, each)
					ratios = append(ratios, float64(on)/float64(off))
				}
				slices.Sort(ratios)
				b.Logf("%.4f", ratios)
				b.ReportMetric(ratios[len(ratios)/2], "ratio")
			}
		})
	}
}

// slice counts the requests of a while in which each, if any, is called every second.
func slice(requests *atomic.Uint64, each func()) uint64 {
	end := time.Now().Add(costSlice)
	was := requests.Load()
	for at := time.Now(); each != nil && at.Before(end); at = at.Add(time.Second) {
		time.Sleep(time.Until(at))
		each()
	}
	time.Sleep(time.Until(end))
	return requests.Load() - was
}

// load has the kernel's clients of p.B ask a server of e on all connections, until stop.
func load(b *testing.B, e *onload.Engine, p *lab.Pair) (requests *atomic.Uint64, stop func()) {
	ln, err := e.Listen("tcp", ":0")
	if err != nil {
		b.Fatal(err)
	}
	var all []net.Conn
	var mu sync.Mutex
	var wait sync.WaitGroup
	serve := func(c net.Conn) {
		request := make([]byte, requestLen)
		answer := make([]byte, 200)
		for {
			if _, err := io.ReadFull(c, request); err != nil {
				return
			}
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	}
	wait.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			all = append(all, c)
			mu.Unlock()
			wait.Go(func() { serve(c) })
		}
	})
	requests = new(atomic.Uint64)
	port := ln.Addr().(*net.TCPAddr).Port
	for range costConns {
		c, err := p.B.Dial("tcp", net.JoinHostPort(p.A.Addr4.String(), strconv.Itoa(port)))
		if err != nil {
			b.Fatal(err)
		}
		mu.Lock()
		all = append(all, c)
		mu.Unlock()
		wait.Go(func() {
			request, answer := make([]byte, requestLen), make([]byte, 200)
			for {
				if _, err := c.Write(request); err != nil {
					return
				}
				if _, err := io.ReadFull(c, answer); err != nil {
					return
				}
				requests.Add(1)
			}
		})
	}
	return requests, func() {
		_ = ln.Close()
		mu.Lock()
		for _, c := range all {
			_ = c.Close()
		}
		mu.Unlock()
		wait.Wait()
	}
}
