// Command bench measures onload against the kernel and the floor that raw
// frames set, in network namespaces of its own:
//
//	go run -C bench . [-quick]
//
// Every rung runs every case once in each round, so that what disturbs the
// machine disturbs all, and ratios are taken within a round. Each end is a
// process of its own, on a processor of its own. The results are a table on
// the terminal and files in a folder: report.json, report.html with plots,
// histograms, lines for benchstat, and the columns of sfnt-pingpong.
//
// It needs root. Without, only the microbenchmarks over the in-memory link
// run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/onload-go/onload/bench/harness"
	"github.com/onload-go/onload/bench/load"
	"github.com/onload-go/onload/bench/micro"
	"github.com/onload-go/onload/bench/report"
	"github.com/onload-go/onload/bench/rung"
)

type options struct {
	plan
	rungs    []rung.Rung
	quick    bool
	rounds   int
	duration time.Duration
	mode     string
	pin      bool
	out      string
	cc       string
	micro    time.Duration
	memory   int
	profiles bool
}

func main() {
	var ord order
	if is, err := harness.Order(&ord); is {
		if err == nil {
			err = child(&ord)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
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
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func parse(args []string) (*options, error) {
	o := &options{}
	var names []string
	for _, g := range rung.All() {
		names = append(names, g.Name)
	}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.BoolVar(&o.quick, "quick", false, "fewer cases and rounds, below 90 s")
	f.IntVar(&o.rounds, "rounds", 0, "rounds (default 5; 2 with -quick)")
	f.DurationVar(&o.duration, "time", 0, "measured for each case, rung and round, after a fifth of it to warm up (default 130ms; 80ms with -quick)")
	f.StringVar(&o.mode, "mode", "auto", "XDP mode: auto, native or generic")
	f.BoolVar(&o.pin, "pin", true, "give each end a processor of its own")
	f.StringVar(&o.out, "out", "", "folder for the results (default a new one below the temporary folder)")
	f.StringVar(&o.cc, "cc", "cubic", "congestion control of the kernel's TCP, as onload's; empty leaves the kernel's default")
	f.DurationVar(&o.micro, "micro", 0, "time for each microbenchmark over the in-memory link, below 0 for none (default 500ms; 50ms with -quick)")
	f.IntVar(&o.memory, "memory", 0, "idle connections over the in-memory link (default 100000; 10000 with -quick)")
	f.BoolVar(&o.profiles, "profile", false, "write CPU profiles of both ends of every run, and a table of where the time went; they cost a little time")
	rungs := f.String("rungs", "all", "rungs: "+strings.Join(names, ", "))
	workloads := f.String("workloads", "all", "workloads: "+strings.Join(load.Workloads(), ", "))
	lists := map[string]*string{}
	for name, doc := range map[string]string{"sizes": "bytes of ping-pong messages", "mtus": "MTUs of bulk streams",
		"conns": "numbers of connections for requests (above 1000 not on all rungs, unless -rungs names them)", "rates": "requests a second for the open loop",
		"datagrams": "bytes of the datagrams for packets", "idle": "number of idle connections"} {
		lists[name] = f.String(name, "", doc+", separated by commas")
	}
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unknown argument %q", f.Arg(0))
	}
	o.plan = defaults(o.quick)
	var idle []int
	for name, into := range map[string]*[]int{"sizes": &o.sizes, "mtus": &o.mtus, "conns": &o.conns, "rates": &o.rates,
		"datagrams": &o.datagrams, "idle": &idle} {
		if err := harness.Numbers(*lists[name], into); err != nil {
			return nil, fmt.Errorf("-%s: %w", name, err)
		}
	}
	if len(idle) > 1 {
		return nil, errors.New("-idle takes one number")
	}
	if len(idle) == 1 {
		o.idle = idle[0]
	}
	var err error
	if o.workloads, err = harness.Choose("workload", *workloads, load.Workloads()); err != nil {
		return nil, err
	}
	o.every = *rungs == "all" || *rungs == ""
	chosen, err := harness.Choose("rung", *rungs, names)
	if err != nil {
		return nil, err
	}
	for _, g := range rung.All() {
		for _, n := range chosen {
			if g.Name == n {
				o.rungs = append(o.rungs, g)
			}
		}
	}
	if _, err := rung.ParseMode(o.mode); err != nil {
		return nil, err
	}
	pick := func(d *time.Duration, quick, full time.Duration) {
		if *d == 0 {
			if *d = full; o.quick {
				*d = quick
			}
		}
	}
	pick(&o.duration, 80*time.Millisecond, 130*time.Millisecond)
	pick(&o.micro, 50*time.Millisecond, 500*time.Millisecond)
	if o.rounds == 0 {
		if o.rounds = 5; o.quick {
			o.rounds = 2
		}
	}
	if o.memory == 0 {
		if o.memory = 100_000; o.quick {
			o.memory = 10_000
		}
	}
	if o.memory < 1 || o.memory > 100_000 {
		return nil, errors.New("-memory is between 1 and 100000")
	}
	if o.rounds < 1 || o.duration < time.Millisecond {
		return nil, errors.New("-rounds and -time must be positive")
	}
	return o, nil
}

// inMemory runs the microbenchmarks.
func (o *options) inMemory(r *report.Report) error {
	if o.micro < 0 {
		return nil
	}
	rounds := min(o.rounds, 3)
	p := harness.NewProgress(micro.Steps(rounds))
	ms, err := micro.Run(o.micro, rounds, o.memory, func(name string) {
		p.Show("in memory, " + name)
		p.Done++
	})
	p.End()
	r.MicroRuns = ms
	return err
}
