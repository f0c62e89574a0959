package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/onload-go/onload/bench/load"
	"github.com/onload-go/onload/bench/rung"
	"github.com/onload-go/onload/internal/lab"
)

// runner runs single cases.
type runner struct {
	lab      *network
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

// process is a child.
type process struct {
	cmd    *lab.Cmd
	stdin  io.Closer
	out    *json.Decoder
	stderr tail
}

// tail keeps the beginning of what a child says about its failure.
type tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if room := 1<<18 - t.b.Len(); room > 0 {
		t.b.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(t.b.String())
}

func start(ctx context.Context, ns *lab.NS, o *order) (*process, error) {
	js, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	p := &process{cmd: ns.CommandContext(ctx, "/proc/self/exe")}
	p.cmd.Env = append(os.Environ(), orderEnv+"="+string(js))
	if rung.TwoProcs(o.Kind) {
		p.cmd.Env = append(p.cmd.Env, "GOMAXPROCS=2")
	}
	p.cmd.Stderr = &p.stderr
	p.cmd.WaitDelay = time.Second
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = json.NewDecoder(out)
	return p, p.cmd.Start()
}

// failure is a run without a result, with what the children said.
type failure struct {
	err    error
	detail string
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// last reads the farewell.
func (p *process) last() (load.Sample, error) {
	var f farewell
	if err := p.out.Decode(&f); err != nil {
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

// once runs one case on one rung, a process for each end.
func (r *runner) once(ctx context.Context, g *rung.Rung, c load.Case, label string) (j load.Joined, err error) {
	pair, err := r.lab.pair(c.MTU, g.NoOffload)
	if err != nil {
		return j, err
	}
	warm := max(r.duration/5, 20*time.Millisecond)
	bound := 4*r.duration + 10*time.Second
	if c.Workload == load.Idle {
		bound += time.Duration(c.Conns) * 500 * time.Microsecond
	}
	ctx, cancel := context.WithTimeout(ctx, bound+3*time.Second)
	defer cancel()
	a, b := pair.A, pair.B
	spec := load.Spec{Case: c, Duration: r.duration, Warm: warm}
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

	before, self := readLoad(), load.Spent()
	srv, err := start(ctx, b, so)
	if err != nil {
		return j, err
	}
	var cl *process
	defer func() {
		cancel() // whoever is still there has had its time
		_ = srv.cmd.Wait()
		said := srv.stderr.String()
		if cl != nil {
			_ = cl.cmd.Wait()
			said = "client:\n" + cl.stderr.String() + "\nserver:\n" + said
		}
		if err != nil {
			err = &failure{err, said}
		}
	}()
	var hello struct {
		greeting
		farewell
	}
	if err := srv.out.Decode(&hello); err != nil {
		return j, fmt.Errorf("server: %w: %s", err, srv.stderr.String())
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
	clientSample, cerr := cl.last()
	srv.stdin.Close()
	serverSample, serr := srv.last()
	if errors.Is(cerr, load.ErrUnsupported) {
		return j, cerr
	}
	if cerr != nil {
		return j, fmt.Errorf("client: %w (server: %v)", cerr, serr)
	}
	if serr != nil {
		return j, fmt.Errorf("server: %w", serr)
	}
	_, _ = cl.cmd.Wait(), srv.cmd.Wait()
	j = load.Join(clientSample, serverSample)
	after := readLoad()
	j.Wall = after.at.Sub(before.at).Seconds()
	if r.irqTime {
		j.Softirq = after.softirq - before.softirq
	}
	ours := seconds(cl.cmd) + seconds(srv.cmd) + load.Spent().Sub(self).Total()
	j.Others = max(0, after.busy-before.busy-ours)
	return j, nil
}

// seconds is what a process that has ended used.
func seconds(c *lab.Cmd) float64 {
	if c.ProcessState == nil {
		return 0
	}
	return (c.ProcessState.UserTime() + c.ProcessState.SystemTime()).Seconds()
}
