package routediff

import (
	"fmt"
	"strings"
	"time"
)

// difference is a try whose outcomes differ.
type difference struct {
	try          string
	kernel, ours outcome
}

func (d difference) String() string {
	return fmt.Sprintf("%s\n    kernel: %s\n    onload: %s", d.try, d.kernel, d.ours)
}

// report is what came of a scenario.
type report struct {
	differences []difference
	tries       int
	accelerated bool // some link was
}

// run compares the outcomes of a scenario: those of the kernel first, then ours on
// the same host.
func run(lines []string, patience time.Duration) (r report, err error) {
	s, err := parse(lines)
	if err != nil {
		return r, err
	}
	w, err := newWorld(&s)
	if err != nil {
		return r, err
	}
	defer w.close()
	want := make([]outcome, len(s.tries))
	kernel := kernelStack{w.host}
	for i := range s.tries {
		t := &s.tries[i]
		if err := w.wire.drain(); err != nil {
			return r, err
		}
		if want[i], err = tryKinds[t.kind](t, kernel, w.wire, patience); err != nil {
			return r, err
		}
	}
	e, err := w.engine()
	if err != nil {
		return r, err
	}
	defer e.Close()
	ours := onloadStack{e}
	for i := range s.tries {
		t := &s.tries[i]
		if err := w.wire.drain(); err != nil {
			return r, err
		}
		got, err := tryKinds[t.kind](t, ours, w.wire, patience)
		if err != nil {
			return r, err
		}
		r.tries++
		if got != want[i] {
			r.differences = append(r.differences, difference{t.text, want[i], got})
		}
	}
	for _, l := range e.Status() {
		r.accelerated = r.accelerated || l.Err == nil
	}
	return r, nil
}

// patiences are those of the attempts at a scenario. What comes late on a slow
// machine is no difference, so one counts only if all attempts show it.
var patiences = []time.Duration{100 * time.Millisecond, time.Second, 10 * time.Second}

// confirmed returns the differences that last.
func confirmed(lines []string) (r report, err error) {
	for i, p := range patiences {
		if r, err = run(lines, p); err != nil || len(r.differences) == 0 {
			return r, err
		}
		if i == 0 { // the other tries agreed
			lines = only(lines, r.differences)
		}
	}
	return r, nil
}

// only returns the lines without the tries that agreed.
func only(lines []string, ds []difference) (kept []string) {
	for _, l := range lines {
		keep := !strings.HasPrefix(l, "try ")
		for _, d := range ds {
			keep = keep || d.try == l
		}
		if keep {
			kept = append(kept, l)
		}
	}
	return kept
}
