package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/onload-go/onload/bench/apps/program"
	"github.com/onload-go/onload/bench/apps/result"
	"github.com/onload-go/onload/bench/harness"
	"github.com/onload-go/onload/bench/report"
	"github.com/onload-go/onload/internal/lab"
)

// The children of a run are this program.
func TestMain(m *testing.M) {
	var ord order
	if is, err := harness.Order(&ord); is {
		if err == nil {
			err = child(&ord)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if args := os.Getenv(runEnv); args != "" {
		o, err := parse(strings.Fields(args))
		if err == nil {
			err = execute(context.Background(), o)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// measured runs the benchmark and reads its report. A run that failed is logged:
// it may have starved, and have been tried again. wantAll finds what has no
// result.
func measured(t *testing.T, args ...string) (*options, *result.Report) {
	t.Helper()
	lab.NeedRoot(t)
	dir := t.TempDir()
	o, err := parse(append(args, "-out", dir, "-rounds", "1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := execute(context.Background(), o); err != nil {
		failures, _ := filepath.Glob(filepath.Join(dir, "failures", "*"))
		for _, f := range failures {
			b, _ := os.ReadFile(f)
			t.Logf("%s", b)
		}
		t.Log(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "apps.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r result.Report
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"apps.html": "<svg", "apps.md": "| geometric mean |", "apps.txt": "ops/s"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !strings.Contains(string(b), want) {
			t.Errorf("%s lacks %q: %v", name, want, err)
		}
	}
	return o, &r
}

// wantAll checks that every cell has a result on every rung that it has.
func wantAll(t *testing.T, o *options, r *result.Report) {
	t.Helper()
	rows := map[string]result.Row{}
	key := func(c result.Cell, g string) string { return c.String() + " on " + g }
	for _, row := range r.Rows {
		rows[key(row.Cell, row.Rung)] = row
	}
	for _, c := range o.cells {
		for i := range o.rungs {
			g := &o.rungs[i]
			row, there := rows[key(c, g.Name)]
			if want := applies(c, g); want != (there && row.Rounds == 1) {
				t.Errorf("%s: a result is there: %v, wanted: %v", key(c, g.Name), there, want)
				continue
			}
			metric := report.OpsPerS
			if c.Load == result.Idle {
				metric = result.IdleCPU
			}
			if f, ok := row.Metrics[metric]; there && (!ok || f.Median < 0 || f.Median == 0 && c.Load != result.Idle) {
				t.Errorf("%s: %s %v", key(c, g.Name), metric, f)
			}
		}
	}
}

// Every program answers on every rung.
func TestPrograms(t *testing.T) {
	lab.NeedRoot(t)
	var names []string
	for _, p := range program.All() {
		if err := p.Missing(); err == nil {
			names = append(names, p.Name)
		} else if os.Getenv("CI") == "true" {
			t.Errorf("CI=true, but %s cannot run: %v", p.Name, err)
		} else {
			t.Logf("NOT TESTED: %s: %v", p.Name, err)
		}
	}
	o, r := measured(t, "-programs", strings.Join(names, ","), "-conditions", "onecore", "-loads", "closed", "-conns", "2", "-time", "20ms")
	wantAll(t, o, r)
}

// Every load runs under every condition.
func TestLoadsAndConditions(t *testing.T) {
	conditions := result.Conditions()
	if len(harness.Processors()) < 2 {
		t.Logf("NOT TESTED: condition %s: there is one processor", result.Cores)
		conditions = slices.DeleteFunc(slices.Clone(conditions), func(c string) bool { return c == result.Cores })
	}
	o, r := measured(t, "-programs", "net/http", "-rungs", "SC", "-conns", "1", "-time", "20ms", "-conditions", strings.Join(conditions, ","))
	wantAll(t, o, r)
	if len(r.Verdicts) < 5*len(conditions) {
		t.Errorf("%d verdicts", len(r.Verdicts))
	}
}

// Two builds are compared with each other, and profiles with the kernel.
func TestBuildsAndProfiles(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o, r := measured(t, "-programs", "redis", "-conditions", "onecore", "-loads", "closed", "-conns", "1", "-time", "20ms", "-rungs", "SC",
		"-profiles", "balanced,throughput", "-child", "old="+self+",new="+self)
	wantAll(t, o, r)
	for _, p := range [][2]string{{"SC:balanced@new", "SC:balanced@old"}, {"SC:throughput@new", "SC:throughput@old"}} {
		if f, ok := r.Ratio(o.cells[0], p[0], p[1], report.OpsPerS); !ok || f.Median <= 0 {
			t.Errorf("%s to %s: %v, %v", p[0], p[1], f, ok)
		}
	}
	if len(r.Layout.Pairs) != 2 {
		t.Errorf("pairs: %v", r.Layout.Pairs)
	}
}

// A run that fails is tried again, reported with what its ends said, and does
// not end the others.
func TestFailure(t *testing.T) {
	lab.NeedRoot(t)
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken")
	if err := os.WriteFile(broken, []byte("#!/bin/sh\necho no such luck >&2\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	o, err := parse([]string{"-programs", "redis", "-conditions", "onecore", "-loads", "closed", "-conns", "1", "-time", "20ms", "-rungs", "SC",
		"-rounds", "1", "-child", "x=" + broken, "-out", dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := execute(context.Background(), o); err == nil {
		t.Fatal("no error")
	}
	files, err := filepath.Glob(filepath.Join(dir, "failures", "*"))
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	for _, f := range files { // the kernel's run may be among them, if it starved
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(b), "no such luck") {
			told++
		}
	}
	if told != 2 {
		t.Errorf("%d of %d files of failures are the broken end's, want 2", told, len(files))
	}
	if b, err := os.ReadFile(filepath.Join(dir, "apps.json")); err != nil || !strings.Contains(string(b), `"Rung": "kernel"`) {
		t.Errorf("the kernel's run is not there: %v", err)
	}
}

// Flags are read strictly.
func TestFlags(t *testing.T) {
	for _, args := range []string{"-programs nothing", "-rungs CS", "-conditions busy", "-loads open", "-conns 0", "-rounds -1", "-time 1us",
		"-child new", "-child new=/does/not/exist", "-profiles fast", "quick"} {
		if _, err := parse(strings.Fields(args)); err == nil {
			t.Errorf("%s: no error", args)
		}
	}
}
