// Command rtt measures round trips between two network namespaces joined by
// veth, every rung in each round, so that the ratios hold on a noisy machine:
//
//	raw      a 64-byte frame between two AF_XDP sockets that spin: the floor
//	onload   1 byte over TCP, onload on both ends, profile latency
//	kernel   1 byte over TCP, package net on both ends
//
// It needs root. Each end is a process of its own, on a processor of its own.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/onload-go/onload/internal/lab"
)

// end is what a child process is told to be.
type end struct {
	Rung   string
	Server bool
	N      int
	Mode   string
	CPU    int // -1: any
	If     string
	Local  string // address
	Remote string
	LMAC   [6]byte
	RMAC   [6]byte
}

// result is what the client's process answers, in ns.
type result struct {
	P50, P90, P99, P999 float64
	Path                string
}

var rungs = map[string]struct{ server, client func(*end) (*result, error) }{
	"raw":    {rawServer, rawClient},
	"onload": {onloadServer, onloadClient},
	"kernel": {kernelServer, kernelClient},
}

const childEnv = "ONLOAD_BENCH_RTT_END"

func main() {
	if v := os.Getenv(childEnv); v != "" {
		os.Unsetenv(childEnv)
		if err := child(v); err != nil {
			fmt.Fprintln(os.Stderr, "rtt:", err)
			os.Exit(1)
		}
		return
	}
	rounds := flag.Int("rounds", 5, "rounds; every rung runs once in each")
	n := flag.Int("n", 50000, "round trips per rung and round")
	mode := flag.String("mode", "auto", "XDP mode: auto, native or generic")
	pin := flag.Bool("pin", true, "give each end a processor of its own")
	which := flag.String("rungs", "raw,onload,kernel", "rungs to run")
	flag.Parse()
	if err := run(*rounds, *n, *mode, *pin, strings.Split(*which, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "rtt:", err)
		os.Exit(1)
	}
}

func run(rounds, n int, mode string, pin bool, which []string) error {
	if _, ok := modes[mode]; !ok {
		return fmt.Errorf("no XDP mode %q: there are auto, native and generic", mode)
	}
	for _, r := range which {
		if _, ok := rungs[r]; !ok {
			return fmt.Errorf("no rung %q: there are raw, onload and kernel", r)
		}
	}
	pair, err := lab.MakePair(lab.Options{Neighbors: true})
	if err != nil {
		return fmt.Errorf("cannot make namespaces (root is needed): %w", err)
	}
	defer pair.Close()
	fmt.Printf("%s, %d CPUs, %d round trips x %d rounds, us\n", runtime.Version(), runtime.NumCPU(), n, rounds)
	all := map[string][]result{}
	for round := range rounds {
		for _, rung := range which {
			r, err := once(pair, rung, n, mode, pin)
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", rung, round+1, err)
			}
			fmt.Printf("  round %d %-7s p50 %7.2f  p90 %7.2f  p99 %7.2f  p99.9 %8.2f  %s\n", round+1, rung,
				r.P50/1e3, r.P90/1e3, r.P99/1e3, r.P999/1e3, r.Path)
			all[rung] = append(all[rung], *r)
		}
	}
	summary(all, which)
	return nil
}

// summary prints medians over the rounds and the ratios of the p50s within a
// round.
func summary(all map[string][]result, which []string) {
	median := func(rs []result, f func(result) float64) float64 {
		var v []float64
		for _, r := range rs {
			v = append(v, f(r))
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	base := which[0]
	fmt.Printf("\n%-8s %8s %8s %8s   p50 relative to %s (median, range over rounds)\n", "rung", "p50 us", "p99", "p99.9", base)
	for _, name := range which {
		rs := all[name]
		var ratios []float64
		for i, r := range rs {
			ratios = append(ratios, r.P50/all[base][i].P50)
		}
		slices.Sort(ratios)
		fmt.Printf("%-8s %8.2f %8.2f %8.2f   %.2f (%.2f to %.2f)\n", name,
			median(rs, func(r result) float64 { return r.P50 })/1e3,
			median(rs, func(r result) float64 { return r.P99 })/1e3,
			median(rs, func(r result) float64 { return r.P999 })/1e3,
			ratios[len(ratios)/2], ratios[0], ratios[len(ratios)-1])
	}
}

// once runs one rung with a process for each end.
func once(pair *lab.Pair, rung string, n int, mode string, pin bool) (*result, error) {
	a, b := pair.A, pair.B
	srv := end{Rung: rung, Server: true, N: n, Mode: mode, CPU: -1, If: b.If,
		Local: b.Addr4.String(), Remote: a.Addr4.String(), LMAC: b.MAC, RMAC: a.MAC}
	cli := end{Rung: rung, N: n, Mode: mode, CPU: -1, If: a.If,
		Local: a.Addr4.String(), Remote: b.Addr4.String(), LMAC: a.MAC, RMAC: b.MAC}
	if pin {
		srv.CPU, cli.CPU = 1%runtime.NumCPU(), 0
	}
	sp, sout, stop, err := start(b, &srv)
	if err != nil {
		return nil, err
	}
	defer sp.Wait()
	defer stop()
	if line, err := sout.ReadString('\n'); err != nil || line != "ready\n" {
		return nil, fmt.Errorf("server: %q %v", line, err)
	}
	cp, cout, cstop, err := start(a, &cli)
	if err != nil {
		return nil, err
	}
	defer cp.Wait()
	defer cstop()
	line, err := cout.ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	r := new(result)
	return r, json.Unmarshal(line, r)
}

// start starts this program as e inside ns; stop ends it.
func start(ns *lab.NS, e *end) (*lab.Cmd, *bufio.Reader, func() error, error) {
	c := ns.Command("/proc/self/exe")
	js, err := json.Marshal(e)
	if err != nil {
		return nil, nil, nil, err
	}
	c.Env = append(os.Environ(), childEnv+"="+string(js))
	c.Stderr = os.Stderr
	in, err := c.StdinPipe()
	if err != nil {
		return nil, nil, nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, nil, nil, err
	}
	if err := c.Start(); err != nil {
		return nil, nil, nil, err
	}
	return c, bufio.NewReader(out), in.Close, nil
}

func child(js string) error {
	e := new(end)
	if err := json.Unmarshal([]byte(js), e); err != nil {
		return err
	}
	if err := pinTo(e.CPU); err != nil {
		return err
	}
	r := rungs[e.Rung]
	if e.Server {
		go func() { // the parent closes our standard input to stop us
			os.Stdin.Read(make([]byte, 1))
			os.Exit(0)
		}()
		if _, err := r.server(e); err != nil {
			return err
		}
		return errors.New("the server ended")
	}
	res, err := r.client(e)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(res)
}

// ready tells the parent that the server can be called.
func ready() { fmt.Println("ready") }

// measure takes n samples of trip after some to warm up.
func measure(n int, trip func(i int) error) (*result, error) {
	ns := make([]float64, 0, n)
	warm := n / 10
	for i := range n + warm {
		t := time.Now()
		if err := trip(i); err != nil {
			return nil, fmt.Errorf("round trip %d: %w", i, err)
		}
		if i >= warm {
			ns = append(ns, float64(time.Since(t)))
		}
	}
	slices.Sort(ns)
	q := func(p float64) float64 { return ns[min(int(p*float64(len(ns))), len(ns)-1)] }
	return &result{P50: q(.5), P90: q(.9), P99: q(.99), P999: q(.999)}, nil
}
