// Command apps measures real programs over onload against the same programs
// over the kernel, in network namespaces of its own:
//
//	go run -C bench/apps . [-quick]
//
// Every rung runs every cell, which is a program under a load and a condition,
// once in each round, so that what disturbs the machine disturbs all, and
// ratios are taken within a round. Each end is a process of its own. An onload
// end is the default engine with ONLOAD_INTERFACES set and nothing else. It
// needs root.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/onload-go/onload/bench/apps/result"
	"github.com/onload-go/onload/bench/harness"
)

func main() {
	var ord order
	if is, err := harness.Order(&ord); is {
		if err == nil {
			err = child(&ord)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "apps:", err)
			os.Exit(1)
		}
		return
	}
	o, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE)
		defer stop()
		err = execute(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "apps:", err)
		os.Exit(1)
	}
}

// mtu is that of the link.
const mtu = 1500

// limits are caveats for readers of every report.
var limits = []string{
	"Over veth the sender's system call runs the receiver's part of the kernel: figures of a NIC are different ones. No wire, no interrupts.",
	"The kernel's ends have Go's and the machine's defaults, its congestion control too.",
	"CPU time is that of all ends, spinning included, with the softirqs that are in no process: the threads ksoftirqd/N, or with CONFIG_IRQ_TIME_ACCOUNTING all of them from /proc/stat in steps of 10 ms.",
	"others-% is processor time that programs took which are not ours (100 is one processor): where it is not small, believe the ratios within a round, not the absolute figures.",
	"An open loop's client sleeps until a request is due, on a timerfd, and latency counts from when it was due; late-us is the median of how late it woke. A client on a busy processor wakes late, on every rung.",
	"p99.9 of slow arrivals is of few requests: at 1,000 a second of one.",
}

func execute(ctx context.Context, o *options) error {
	if o.out == "" {
		dir, err := os.MkdirTemp("", "onload-apps-")
		if err != nil {
			return err
		}
		o.out = dir
	} else if err := os.MkdirAll(o.out, 0o755); err != nil {
		return err
	}
	n := harness.NewNetwork()
	defer n.Close()
	pair, err := n.Pair(mtu, false)
	if err != nil {
		return fmt.Errorf("no network namespaces: %w; run as root", err)
	}
	s := &session{options: o, runner: &runner{pair: pair, cpus: harness.Processors(), duration: o.duration, softirqs: harness.NewSoftirqs()},
		capacity: map[result.Cell]float64{}, prepared: map[preparation]prepared{}}
	if s.dir, err = harness.Scratch(); err != nil {
		return err
	}
	defer os.RemoveAll(s.dir)
	if err := os.Chmod(s.dir, 0o711); err != nil { // PostgreSQL is another user
		return err
	}
	if s.runner.periods = 10; o.quick {
		s.runner.periods = 4
	}
	r := &s.report
	*r = result.Report{Command: strings.Join(os.Args[1:], " "), Began: time.Now(), Rounds: o.rounds, Duration: o.duration,
		Machine: harness.Machine(pair), Layout: s.layout(), Limits: limits, Notes: slices.Concat(o.missing, n.Notes)}
	r.Machine.Pinning = "by condition"
	for _, p := range o.programs {
		r.Programs = append(r.Programs, [2]string{p.Name, p.Doc})
	}
	merr := s.measure(ctx)
	r.Took = time.Since(r.Began).Round(time.Second)
	r.Finish()
	if err := errors.Join(r.Text(os.Stdout), r.Write(o.out)); err != nil {
		return err
	}
	fmt.Printf("%v; results are in %s\n", r.Took, o.out)
	if merr == nil && len(r.Failures) > 0 {
		merr = fmt.Errorf("%d runs failed; see %s", len(r.Failures), o.out)
	}
	return merr
}
