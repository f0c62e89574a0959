package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/onload-go/onload/bench/harness"
	"github.com/onload-go/onload/bench/load"
	"github.com/onload-go/onload/bench/rung"
	"github.com/onload-go/onload/internal/lab"
)

// runner runs single cases.
type runner struct {
	lab      *harness.Network
	mode     string
	cc       string // congestion control of the kernel's TCP
	cpus     [2]int // client, server; -1: any
	duration time.Duration
	profiles string // folder, or empty
	irqTime  bool   // the kernel takes softirqs out of the processes' time
}

// The ends of a run.
const (
	client = "client"
	server = "server"
)

// profileOf is the file of one end's CPU profile.
func (r *runner) profileOf(label, end string) string {
	return filepath.Join(r.profiles, label+"."+end+".pprof")
}

func start(ctx context.Context, ns *lab.NS, o *order) (*harness.Process, error) {
	var env []string
	if rung.TwoProcs(o.Kind) {
		env = append(env, "GOMAXPROCS=2")
	}
	return harness.Start(ctx, ns, harness.Self, o, env...)
}

// last reads the farewell.
func last(p *harness.Process) (load.Sample, error) {
	var f farewell
	if err := p.Out.Decode(&f); err != nil {
		return f.Sample, fmt.Errorf("died without a result (%w)", err)
	}
	if f.Unsupported {
		return f.Sample, load.ErrUnsupported
	}
	if f.Error != "" {
		return f.Sample, errors.New(f.Error)
	}
	return f.Sample, nil
}

// once runs one case on one rung, a process for each end, for so many times the
// time of a run.
func (r *runner) once(ctx context.Context, g *rung.Rung, c load.Case, times int, label string) (j load.Joined, err error) {
	pair, err := r.lab.Pair(c.MTU, g.NoOffload)
	if err != nil {
		return j, err
	}
	duration := time.Duration(times) * r.duration
	warm := max(r.duration/5, 20*time.Millisecond)
	bound := 4*duration + time.Minute
	if c.Workload == load.Idle {
		bound += time.Duration(c.Conns) * 500 * time.Microsecond
	}
	ctx, cancel := context.WithTimeout(ctx, bound+3*time.Second)
	defer cancel()
	a, b := pair.A, pair.B
	spec := load.Spec{Case: c, Duration: duration, Warm: warm}
	so := &order{Kind: g.Server, Server: true, Mode: r.mode, Congestion: r.cc, CPU: r.cpus[1], If: b.If, Remote: a.Addr4.String(),
		LMAC: b.MAC, RMAC: a.MAC, Spec: spec, Bound: bound}
	so.Spec.Local = b.Addr4.String()
	co := &order{Kind: g.Client, Mode: r.mode, Congestion: r.cc, CPU: r.cpus[0], If: a.If, Remote: b.Addr4.String(),
		LMAC: a.MAC, RMAC: b.MAC, Spec: spec, Bound: bound}
	co.Spec.Local = a.Addr4.String()
	if g.Free {
		so.CPU, co.CPU = -1, -1
	}
	if r.profiles != "" {
		so.Profile, co.Profile = r.profileOf(label, server), r.profileOf(label, client)
	}

	before, self := harness.ReadLoad(), load.Spent()
	srv, err := start(ctx, b, so)
	if err != nil {
		return j, err
	}
	var cl *harness.Process
	defer func() {
		cancel() // whoever is still there has had its time
		_ = srv.Cmd.Wait()
		said := srv.Stderr.String()
		if cl != nil {
			_ = cl.Cmd.Wait()
			said = "client:\n" + cl.Stderr.String() + "\nserver:\n" + said
		}
		if err != nil {
			err = &harness.Failure{Err: err, Detail: said}
		}
	}()
	var hello struct {
		greeting
		farewell
	}
	if err := srv.Out.Decode(&hello); err != nil {
		return j, fmt.Errorf("server: %w: %s", err, srv.Stderr.String())
	}
	if hello.Unsupported {
		return j, load.ErrUnsupported
	}
	if hello.Error != "" {
		return j, fmt.Errorf("server: %s", hello.Error)
	}
	co.Spec.Addrs = hello.Addrs
	if cl, err = start(ctx, a, co); err != nil {
		return j, err
	}
	clientSample, cerr := last(cl)
	srv.In.Close()
	serverSample, serr := last(srv)
	if errors.Is(cerr, load.ErrUnsupported) {
		return j, cerr
	}
	if cerr != nil {
		return j, fmt.Errorf("client: %w (server: %v)", cerr, serr)
	}
	if serr != nil {
		return j, fmt.Errorf("server: %w", serr)
	}
	_, _ = cl.Cmd.Wait(), srv.Cmd.Wait()
	j = load.Join(clientSample, serverSample)
	after := harness.ReadLoad()
	j.Wall = after.At.Sub(before.At).Seconds()
	if r.irqTime {
		j.Softirq = after.Softirq - before.Softirq
	}
	ours := cl.Seconds() + srv.Seconds() + load.Spent().Sub(self).Total()
	j.Others = max(0, after.Busy-before.Busy-ours)
	return j, nil
}
