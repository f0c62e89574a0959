package main

import (
	"errors"
	"flag"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/onload-go/onload/bench/apps/program"
	"github.com/onload-go/onload/bench/apps/result"
	"github.com/onload-go/onload/bench/harness"
)

// options are what the flags ask for.
type options struct {
	programs []*program.Program
	missing  []string // programs that this machine cannot run
	cells    []result.Cell
	rungs    []rung
	builds   []build
	rounds   int
	duration time.Duration
	quick    bool
	out      string
}

func parse(args []string) (*options, error) {
	o := &options{}
	var programs, sideNames []string
	for _, p := range program.All() {
		programs = append(programs, p.Name)
	}
	for _, s := range sides {
		sideNames = append(sideNames, s.Name)
	}
	f := flag.NewFlagSet("apps", flag.ContinueOnError)
	// list is a flag that chooses among names: all of them, where -quick does
	// not take those in quick.
	list := func(name, doc, quick string, there []string) func() ([]string, error) {
		v := f.String(name, "", doc+": "+strings.Join(there, ", "))
		return func() ([]string, error) {
			if *v == "" && o.quick {
				*v = quick
			}
			return harness.Choose(name, *v, there)
		}
	}
	chosenPrograms := list("programs", "programs", "", programs)
	chosenRungs := list("rungs", "rungs beside the kernel's, which always runs", "", sideNames)
	chosenConds := list("conditions", "conditions", "", result.Conditions())
	quickLoads := strings.Join([]string{result.Closed, result.Open50, result.EachMS}, ",")
	chosenLoads := list("loads", "loads (with -quick "+quickLoads+")", quickLoads, result.Loads())
	profiles := f.String("profiles", "", "profiles of onload's ends, separated by commas: balanced, latency, throughput (default none is set)")
	connsFlag := f.String("conns", "", "numbers of connections of the closed loop (default 1,32,512; 1,32 with -quick)")
	children := f.String("child", "", "name=path,...: the ends of rungs NAME@name are the build of this program at path, and ratios of the later to the first are printed")
	f.IntVar(&o.rounds, "rounds", 0, "rounds (default 3; 1 with -quick)")
	f.DurationVar(&o.duration, "time", 0, "measured for each cell, rung and round (default 400ms; 100ms with -quick)")
	f.BoolVar(&o.quick, "quick", false, "one round of short runs, of fewer loads: some minutes")
	f.StringVar(&o.out, "out", "", "folder for the results (default a new one below the temporary folder)")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("unknown argument %q", f.Arg(0))
	}
	names, err := chosenPrograms()
	if err != nil {
		return nil, err
	}
	sidesWanted, err := chosenRungs()
	if err != nil {
		return nil, err
	}
	conds, err := chosenConds()
	if err != nil {
		return nil, err
	}
	ls, err := chosenLoads()
	if err != nil {
		return nil, err
	}
	conns := []int{1, 32, 512}
	if o.quick {
		conns = conns[:2]
	}
	if err := harness.Numbers(*connsFlag, &conns); err != nil {
		return nil, fmt.Errorf("-conns: %w", err)
	}
	for _, n := range names {
		p := program.Find(n)
		if err := p.Missing(); err != nil {
			// A program named by the user must not be left out.
			if len(names) < len(programs) {
				return nil, fmt.Errorf("program %s: %w", n, err)
			}
			o.missing = append(o.missing, fmt.Sprintf("LEFT OUT: %s: %v.", n, err))
			continue
		}
		o.programs = append(o.programs, p)
	}
	if o.builds, err = builds(*children); err != nil {
		return nil, err
	}
	chosenProfiles := []string{""} // none is set
	if *profiles != "" {
		if chosenProfiles, err = harness.Choose("profile", *profiles, []string{"balanced", "latency", "throughput"}); err != nil {
			return nil, err
		}
	}
	o.rungs = rungs(sidesWanted, chosenProfiles, o.builds)
	o.cells = cells(o.programs, conds, ls, conns)
	if o.rounds == 0 {
		if o.rounds = 3; o.quick {
			o.rounds = 1
		}
	}
	if o.duration == 0 {
		if o.duration = 400 * time.Millisecond; o.quick {
			o.duration = 100 * time.Millisecond
		}
	}
	if o.rounds < 1 || o.duration < time.Millisecond {
		return nil, errors.New("-rounds and -time must be positive")
	}
	if len(harness.Processors()) < 2 && slices.Contains(conds, result.Cores) {
		return nil, errors.New("there is one processor: condition cores needs two")
	}
	return o, nil
}

// builds reads name=path,...; without any there is this one.
func builds(s string) (bs []build, err error) {
	if s == "" {
		return []build{{}}, nil
	}
	for _, f := range strings.Split(s, ",") {
		name, path, ok := strings.Cut(f, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("-child: %q is not name=path", f)
		}
		if path, err = exec.LookPath(path); err != nil {
			return nil, fmt.Errorf("-child: %w", err)
		}
		if path, err = filepath.Abs(path); err != nil {
			return nil, err
		}
		bs = append(bs, build{name, path})
	}
	return bs, nil
}

// layout is that of the tables. With several builds, each is also compared
// with the first.
func (s *session) layout() result.Layout {
	l := result.Layout{Base: kernelRung, Cells: s.cells}
	for _, g := range s.rungs {
		l.Rungs = append(l.Rungs, g.Name)
	}
	for _, b := range s.builds[1:] {
		for _, g := range s.rungs {
			if side, ok := strings.CutSuffix(g.Name, "@"+b.name); ok {
				l.Pairs = append(l.Pairs, [2]string{g.Name, side + "@" + s.builds[0].name})
			}
		}
	}
	return l
}
