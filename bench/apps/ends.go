package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/onload-go/onload/bench/apps/program"
	"github.com/onload-go/onload/bench/apps/result"
	"github.com/onload-go/onload/bench/harness"
	"github.com/onload-go/onload/internal/lab"
)

// runner runs a cell on a rung.
type runner struct {
	pair     *lab.Pair // the client is in A
	cpus     []int
	duration time.Duration // the least that is measured; see timesOf
	periods  int           // of a quota, that are measured at least
	softirqs *harness.Softirqs
}

// timesOf is how long a cell is measured, after how long a warm-up. A quota is
// given out ten times a second, and slow arrivals need time to make a tail.
func (r *runner) timesOf(c result.Cell) (d, warm time.Duration) {
	d = r.duration
	if c.Load != result.Closed {
		d *= 2
	}
	if c.Condition == result.Quota {
		d = max(d, time.Duration(r.periods)*harness.QuotaPeriod)
	}
	return d, max(d/5, 50*time.Millisecond)
}

// one is an end that runs.
type one struct {
	*harness.Process
	role  string
	cpu   int
	group *harness.Group // or nil
}

// run is a run of a cell on a rung.
type run struct {
	*runner
	ctx  context.Context
	cell result.Cell
	rung *rung
	kind kind
	ends []*one
}

// once runs c on g, a process for each end, for so many times the time of a run.
// dir is an external server's folder.
func (r *runner) once(ctx context.Context, c result.Cell, g *rung, k kind, times int, dir string) (m *result.Measured, err error) {
	d, warm := r.timesOf(c)
	d *= time.Duration(times)
	bound := 5*d + time.Minute
	ctx, cancel := context.WithTimeout(ctx, bound+3*time.Second)
	defer cancel()
	u := &run{runner: r, ctx: ctx, cell: c, rung: g, kind: k}
	defer func() {
		cancel() // whoever is still there has had its time
		var said []string
		for _, e := range u.ends {
			_ = e.Cmd.Wait()
			said = append(said, e.role+":", e.Stderr.String())
			if e.group != nil {
				err = errors.Join(err, e.group.Close())
			}
		}
		if err != nil {
			err = &harness.Failure{Err: err, Detail: strings.Join(said, "\n")}
		}
	}()
	p := program.Find(c.Program)
	o := order{Program: c.Program, Dir: dir, Conns: c.Conns, Kind: k, Duration: d, Warm: warm, Bound: bound}
	proxy := p.Upstream != nil
	if proxy {
		if o.Remote, err = u.serve(o, upstream, r.pair.A, false); err != nil {
			return nil, err
		}
	}
	if o.Remote, err = u.serve(o, server, r.pair.B, g.Server || proxy && g.Client); err != nil {
		return nil, err
	}
	cl, err := u.start(o, client, r.pair.A, g.Client && !proxy)
	if err != nil {
		return nil, err
	}
	if m, err = u.listen(cl); err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	if p.External != nil {
		if err := checkXDP(r.pair.B, g.Server); err != nil {
			return nil, err
		}
		return m, u.ends[0].end(p.External.Stop)
	}
	return m, u.stop(m)
}

// end ends an external server, by force if it does not do so by itself.
func (e *one) end(by syscall.Signal) error {
	if err := e.Cmd.Process.Signal(by); err != nil {
		return fmt.Errorf("%s: %w", e.role, err)
	}
	t := time.AfterFunc(5*time.Second, func() { _ = e.Cmd.Process.Kill() })
	defer t.Stop()
	_ = e.Cmd.Wait() // its status is its own affair
	return nil
}

// makeReady has a build of this program prepare an external server in dir.
func (r *runner) makeReady(ctx context.Context, name, build, dir string) error {
	const bound = 5 * time.Minute // it may compile
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	u := &run{runner: r, ctx: ctx, rung: &rung{Build: build}}
	e, err := u.start(order{Program: name, Dir: dir, Bound: bound}, prepare, r.pair.B, false)
	if err != nil {
		return err
	}
	_, err = e.next()
	if werr := e.Cmd.Wait(); err == nil {
		err = werr
	}
	return err
}

// placement is the processor of a role.
func (u *run) placement(role string) int {
	switch {
	case u.cell.Condition == result.Cores && role == server:
		return u.cpus[1]
	case u.cell.Condition == result.Cores || u.cell.Condition == result.OneCore:
		return u.cpus[0]
	}
	return -1
}

func (u *run) start(o order, role string, ns *lab.NS, onload bool) (*one, error) {
	o.Role, o.Host, o.CPU, o.Onload = role, ns.Addr4.String(), u.placement(role), onload
	exe := harness.Self
	if u.rung.Build != "" {
		exe = u.rung.Build
	}
	var group *harness.Group
	if u.cell.Condition == result.Quota {
		var err error
		if group, err = harness.NewGroup(quotaShare); err != nil {
			return nil, err
		}
		o.Cgroup = group.Procs()
	}
	var env []string
	if onload {
		env = append(env, "ONLOAD_INTERFACES="+ns.If)
		if u.rung.Profile != "" {
			env = append(env, "ONLOAD_PROFILE="+u.rung.Profile)
		}
	}
	p, err := harness.Start(u.ctx, ns, exe, &o, env...)
	if err != nil {
		if group != nil {
			err = errors.Join(err, group.Close())
		}
		return nil, err
	}
	e := &one{p, role, o.CPU, group}
	u.ends = append(u.ends, e)
	return e, nil
}

// serve starts a server and returns its address when it can be called.
func (u *run) serve(o order, role string, ns *lab.NS, onload bool) (string, error) {
	e, err := u.start(o, role, ns, onload)
	if err != nil {
		return "", err
	}
	m, err := e.next()
	if err != nil {
		return "", err
	}
	if m.Server == nil {
		return "", errors.New(role + " said nothing of its address")
	}
	return m.Server.Addr, nil
}

// next returns the end's next message.
func (e *one) next() (m message, err error) {
	if err := e.Out.Decode(&m); err != nil {
		return m, fmt.Errorf("%s died without a result (%w)", e.role, err)
	}
	if m.Error != "" {
		return m, fmt.Errorf("%s: %s", e.role, m.Error)
	}
	return m, nil
}

// listen follows the client to its end, and reads the accounts when it says
// that the measurement begins and ends.
func (u *run) listen(cl *one) (*result.Measured, error) {
	r := &result.Measured{Counters: map[string]any{}}
	var from, to accounts
	for {
		m, err := cl.next()
		switch {
		case err != nil:
			return nil, err
		case m.Mark == begin:
			from = u.read()
		case m.Mark == end:
			to = u.read()
		case m.Sample != nil:
			r.Sample = *m.Sample
			if from.at.IsZero() || to.at.IsZero() {
				return nil, errors.New("no accounts: it did not say when it began and ended")
			}
			u.account(r, from, to)
			if r.Sample.Ops == 0 && !u.kind.Idle {
				return nil, errors.New("not one answer")
			}
		default:
			r.Counters[client] = m.Counters
			return r, nil
		}
	}
}

// stop ends the servers and takes what they counted.
func (u *run) stop(r *result.Measured) error {
	for _, e := range u.ends {
		if e.role == client {
			continue
		}
		e.In.Close()
		m, err := e.next()
		if err != nil {
			return err
		}
		r.Counters[e.role] = m.Counters
	}
	return nil
}
