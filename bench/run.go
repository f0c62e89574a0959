package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/onload-go/onload/bench/harness"
	"github.com/onload-go/onload/bench/load"
	"github.com/onload-go/onload/bench/report"
	"github.com/onload-go/onload/bench/rung"
)

// limits are caveats for readers of every report.
var limits = []string{
	"Over veth the sender's system call runs the receiver's part of the kernel: figures of a NIC are different ones. No wire, no interrupts.",
	"SO_BUSY_POLL has no effect on veth (its sockets have no NAPI id); the rung tuned shows what its options cost, not what they win on a NIC. The sysctls net.core.busy_* are the whole machine's and are left alone.",
	"The rung spin serves one connection at a time, so it has no requests over several connections and no idle ones.",
	"CPU time is that of both processes, spinning included. Softirqs that run on their processors' time are in it: charged to them by kernels without CONFIG_IRQ_TIME_ACCOUNTING, added from /proc/stat (the whole machine's, in steps of 10 ms) on others.",
	"others-% is processor time that programs other than the two ends took (100 is one processor): where it is not small, believe the ratios within a round, not the absolute figures.",
	"The open loop is one client goroutine that pipelines up to 256 requests on one connection; latency counts from the intended send time.",
	"Idle memory is the Go heap with stacks, and resident memory, of each process; what the kernel keeps for its own sockets is not in it.",
	"gVisor's endpoint over AF_XDP has frames of 2 KiB: MTU 1500 only.",
}

func run(ctx context.Context, o *options) error {
	if o.out == "" {
		dir, err := os.MkdirTemp("", "onload-bench-")
		if err != nil {
			return err
		}
		o.out = dir
	} else if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	r := &report.Report{Command: strings.Join(os.Args[1:], " "), Began: time.Now(), Quick: o.quick, Rounds: o.rounds,
		Duration: o.duration, XDPMode: o.mode, Limits: limits}
	cpus := [2]int{-1, -1}
	if p := harness.Processors(); o.pin && len(p) >= 2 {
		cpus = [2]int{p[0], p[1]}
	}
	n := harness.NewNetwork()
	defer n.Close()
	pair, err := n.Pair(mtu, false)
	r.Machine = harness.Machine(pair, "gvisor", "cilium/ebpf")
	r.Machine.Pinning = fmt.Sprintf("client on processor %d, server on %d, GOMAXPROCS 1 each (rung net-free: none)", cpus[0], cpus[1])
	if cpus[0] < 0 {
		r.Machine.Pinning = "none: there is one processor for both ends, or -pin=false"
	}
	if o.cc != "" {
		r.Machine.Congestion = o.cc + " by TCP_CONGESTION, where the machine's default is " + r.Machine.Congestion
	}
	if err != nil {
		fmt.Printf("No network namespaces (%v): everything over veth is missing (all rungs but the in-memory link, all workloads).\nRun as root for the rest.\n", err)
		r.Limits = []string{fmt.Sprintf("Without privileges (%v): only the in-memory microbenchmarks ran; all rungs over veth are missing.", err)}
		r.Rounds = 0
	} else if err := measure(ctx, o, r, n, cpus); err != nil {
		return err
	}
	if err := o.inMemory(r); err != nil {
		r.Failures = append(r.Failures, "microbenchmarks: "+err.Error())
	}
	r.Limits = append(r.Limits, n.Notes...)
	r.Took = time.Since(r.Began)
	r.Finish()
	fmt.Println()
	if err := r.Table(os.Stdout); err != nil {
		return err
	}
	if err := r.Write(o.out); err != nil {
		return err
	}
	fmt.Printf("\n%v; results are in %s\n", r.Took.Round(time.Second), o.out)
	if len(r.Failures) > 0 {
		return fmt.Errorf("%d runs failed; see the table and %s", len(r.Failures), filepath.Join(o.out, "failures"))
	}
	return nil
}

// measure runs every case on every rung in every round.
func measure(ctx context.Context, o *options, r *report.Report, n *harness.Network, cpus [2]int) error {
	rr := &runner{lab: n, mode: o.mode, cc: o.cc, cpus: cpus, duration: o.duration, irqTime: harness.IRQTimeApart()}
	if o.profiles {
		rr.profiles = filepath.Join(o.out, "profiles")
		if err := os.MkdirAll(rr.profiles, 0o755); err != nil {
			return err
		}
	}
	for _, g := range o.rungs {
		r.RungDocs = append(r.RungDocs, [2]string{g.Name, g.Doc})
	}
	r.Cases = o.cases()
	total := 0
	for _, c := range r.Cases {
		for i := range o.rungs {
			if o.wants(&o.rungs[i], c) {
				total += o.rounds
			}
		}
	}
	p := harness.NewProgress(total)
	for round := range o.rounds {
		for ci, c := range r.Cases {
			for i := range o.rungs {
				// Each round begins with another rung, so that none always follows
				// the same one.
				g := &o.rungs[(i+round+ci)%len(o.rungs)]
				if !o.wants(g, c) {
					continue
				}
				if err := one(ctx, o, r, rr, round, g, c, p); err != nil {
					return err
				}
			}
		}
	}
	p.End()
	return nil
}

func one(ctx context.Context, o *options, r *report.Report, rr *runner, round int, g *rung.Rung, c load.Case, p *harness.Progress) error {
	name := fmt.Sprintf("round %d/%d  %s on %s", round+1, o.rounds, c, g.Name)
	p.Show(name)
	label := report.FileName(c.String(), g.Name, fmt.Sprint("round", round+1))
	j, err := rr.once(ctx, g, c, 1, label)
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	if err != nil && !errors.Is(err, load.ErrUnsupported) {
		// On a machine with other users a run may starve. It is repeated once, for
		// longer, and the report says so.
		r.Limits = append(r.Limits, fmt.Sprintf("Run a second time: %s: %v", name, err))
		if j, err = rr.once(ctx, g, c, 10, label); ctx.Err() != nil {
			return errors.New("interrupted")
		}
	}
	p.Done++
	run := &report.Run{Round: round, Rung: g.Name, Case: c, Joined: j}
	if errors.Is(err, load.ErrUnsupported) {
		return nil
	}
	if err != nil {
		run.Error = err.Error()
		line := name + ": " + err.Error()
		p.Say("FAILED " + line)
		r.Failures = append(r.Failures, line)
		if f := (*harness.Failure)(nil); errors.As(err, &f) {
			if err := keep(filepath.Join(o.out, "failures"), label+".txt", line+"\n\n"+f.Detail); err != nil {
				return err
			}
		}
	} else if rr.profiles != "" {
		for end, cpu := range map[string]load.CPU{client: j.ClientCPU, server: j.ServerCPU} {
			if err := r.AddProfile(c, g.Name, end, rr.profileOf(label, end), cpu.Total(), j.AllOps); err != nil {
				return err
			}
		}
	}
	return r.Add(run)
}

func keep(dir, name, text string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644)
}
