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
	"syscall"

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
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
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
		capacity: map[result.Cell]float64{}}
	merr := s.measure(ctx)
	if err := s.set.Table(os.Stdout, s.layout()); err != nil {
		return err
	}
	for _, f := range s.failures {
		fmt.Println("FAILED", f)
	}
	fmt.Println("results are in", o.out)
	if merr == nil && len(s.failures) > 0 {
		merr = fmt.Errorf("%d runs failed; see %s", len(s.failures), o.out)
	}
	return merr
}
