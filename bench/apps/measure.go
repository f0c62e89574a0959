package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/onload-go/onload/bench/apps/program"
	"github.com/onload-go/onload/bench/apps/result"
	"github.com/onload-go/onload/bench/harness"
	"github.com/onload-go/onload/bench/report"
)

// session is one run of this command.
type session struct {
	*options
	runner   *runner
	report   result.Report
	progress *harness.Progress
	capacity map[result.Cell]float64 // the kernel's, requests/s, by program and condition
	dir      string                  // for what external servers need
	prepared map[preparation]prepared
}

// prepared is the folder of an external server, or why there is none.
type prepared struct {
	dir string
	err error
}

// preparation is that of an external server by a build of this program.
type preparation struct {
	server *program.External
	build  string
}

// measure runs every cell on every rung in every round.
func (s *session) measure(ctx context.Context) error {
	total := 0
	for _, c := range s.cells {
		for i := range s.rungs {
			if applies(c, &s.rungs[i]) {
				total += s.rounds
			}
		}
	}
	s.progress = harness.NewProgress(total)
	defer s.progress.End()
	for round := range s.rounds {
		for i, c := range s.cells {
			for j := range s.rungs {
				// Each round begins with another rung, so that none always follows
				// the same one.
				g := &s.rungs[(i+j+round)%len(s.rungs)]
				if !applies(c, g) {
					continue
				}
				if err := s.one(ctx, round, c, g); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// one runs a cell on a rung and adds what it gave to the report.
func (s *session) one(ctx context.Context, round int, c result.Cell, g *rung) error {
	name := fmt.Sprintf("round %d/%d  %s on %s", round+1, s.rounds, c, g.Name)
	s.progress.Show(name)
	k, err := s.kindOf(ctx, c, round)
	if err != nil {
		return err
	}
	r := &result.Run{Cell: c, Rung: g.Name, Round: round, Rate: k.Rate}
	if r.Measured, err = s.try(ctx, name, c, g, k); ctx.Err() != nil {
		return err
	} else if err != nil {
		r.Error = err.Error()
	}
	s.progress.Done++
	return s.report.Add(r)
}

// try runs a cell on a rung. If that fails it runs it once more and for longer: on
// a machine with other users a run may starve. Both failures are kept.
func (s *session) try(ctx context.Context, name string, c result.Cell, g *rung, k kind) (m *result.Measured, err error) {
	for try, times := range [...]int{1, 10} {
		if m, err = s.run(ctx, c, g, k, times); err == nil {
			return m, nil
		}
		if ctx.Err() != nil {
			return nil, errors.New("interrupted")
		}
		if ferr := s.fail(name, try, err); ferr != nil {
			return nil, ferr
		}
	}
	return nil, err
}

// run runs a cell on a rung, after its server has been prepared, for so many
// times the time of a run.
func (s *session) run(ctx context.Context, c result.Cell, g *rung, k kind, times int) (*result.Measured, error) {
	p := program.Find(c.Program)
	if p.External == nil {
		return s.runner.once(ctx, c, g, k, times, "")
	}
	prep := preparation{p.External, g.Build}
	have, ok := s.prepared[prep]
	if !ok {
		have.dir = filepath.Join(s.dir, fmt.Sprint(len(s.prepared)))
		if have.err = os.Mkdir(have.dir, 0o755); have.err == nil {
			have.err = s.runner.makeReady(ctx, p.Name, g.Build, have.dir)
		}
		s.prepared[prep] = have
	}
	if have.err != nil {
		return nil, fmt.Errorf("cannot be prepared: %w", have.err)
	}
	return s.runner.once(ctx, c, g, k, times, have.dir)
}

// applies reports whether a cell can run on a rung.
func applies(c result.Cell, g *rung) bool {
	e := program.Find(c.Program).External
	return e == nil || !e.KernelOnly || !g.Server
}

// kindOf says how the clients of a cell ask in a round: on all rungs at the same
// moments.
func (s *session) kindOf(ctx context.Context, c result.Cell, round int) (kind, error) {
	switch c.Load {
	case result.Closed:
		return kind{}, nil
	case result.Idle:
		return kind{Idle: true}, nil
	case result.EachMS:
		return kind{Rate: 1000}, nil
	}
	limit, err := s.capacityOf(ctx, c)
	d, _ := s.runner.timesOf(c)
	return kind{Rate: max(limit*shares[c.Load], fewest/d.Seconds()), Random: true, Seed: uint64(round)}, err
}

// fewest is how many arrivals a run of an open loop has at least, on average. The
// kernel's capacity may have been measured while others had the processors, and a
// share of that be none in the whole time.
const fewest = 20

// capacityOf is the kernel's rate of answers in a closed loop: that of the first
// round if it has been measured, else that of a run for the purpose.
func (s *session) capacityOf(ctx context.Context, c result.Cell) (float64, error) {
	c.Load, c.Conns = result.Closed, capacityConns
	if limit := s.capacity[c]; limit > 0 {
		return limit, nil
	}
	f, ok := s.report.Figure(c, kernelRung, report.OpsPerS)
	if !ok {
		name := fmt.Sprintf("the kernel's capacity for %s", c)
		m, err := s.try(ctx, name, c, &sides[0], kind{})
		if err != nil {
			return 0, fmt.Errorf("%s: %w", name, err)
		}
		f.Median = float64(m.Ops) / m.Seconds
	}
	s.capacity[c] = f.Median
	return f.Median, nil
}

// fail says that a run failed and keeps what its ends said.
func (s *session) fail(name string, try int, err error) error {
	line := fmt.Sprintf("%s, try %d: %v", name, try+1, err)
	s.progress.Say("FAILED " + line)
	s.report.Failures = append(s.report.Failures, line)
	f := (*harness.Failure)(nil)
	if !errors.As(err, &f) {
		return nil
	}
	dir := filepath.Join(s.out, "failures")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	file := report.FileName(fmt.Sprintf("%d-%s", len(s.report.Failures), name)) + ".txt"
	return os.WriteFile(filepath.Join(dir, file), []byte(line+"\n\n"+f.Detail+"\n"), 0o644)
}
