package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/onload-go/onload/bench/harness"
	"github.com/onload-go/onload/bench/load"
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
	os.Exit(m.Run())
}

func read(t *testing.T, dir string) *report.Report {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r report.Report
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	return &r
}

// Every workload runs on every rung that it applies to, and comes out in every
// file.
func TestAll(t *testing.T) {
	lab.NeedRoot(t)
	dir := t.TempDir()
	o, err := parse([]string{"-rounds", "1", "-time", "100ms", "-micro", "-1ns", "-out", dir, "-sizes", "1", "-mtus", "1500",
		"-conns", "10", "-rates", "1000", "-datagrams", "22", "-idle", "50"})
	if err != nil {
		t.Fatal(err)
	}
	if err := run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	r := read(t, dir)
	for _, c := range o.cases() {
		for i := range o.rungs {
			row := find(r, c, o.rungs[i].Name)
			if want := o.wants(&o.rungs[i], c); want != (row != nil && row.Rounds == 1) {
				t.Errorf("%s on %s: a result is there: %v, wanted: %v", c, o.rungs[i].Name, row != nil, want)
			}
		}
	}
	for _, v := range r.Verdicts {
		// Memory is a difference of two readings of the heap: what became
		// garbage between them outweighs a few connections.
		if v.Metric != report.HeapConn && v.Ratio.Median <= 0 {
			t.Errorf("%s: %v", v.Target, v.Ratio)
		}
	}
	if len(r.Verdicts) < 15 {
		t.Errorf("%d verdicts", len(r.Verdicts))
	}
	for name, want := range map[string]string{"report.html": "<svg", "benchstat.txt": "Benchmark/rung=latency/workload=tcp-rtt",
		"pingpong.tsv": "#\tsize\tmean", "table.txt": "against the spinning kernel", "readme.md": "| `latency` |"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !strings.Contains(string(b), want) {
			t.Errorf("%s lacks %q: %v", name, want, err)
		}
	}
	if hists, err := filepath.Glob(filepath.Join(dir, "hist", "*")); err != nil || len(hists) == 0 {
		t.Errorf("histograms: %v, %v", hists, err)
	}
}

func find(r *report.Report, c load.Case, rung string) *report.Row {
	for _, row := range r.Rows {
		if row.Params == c && row.Rung == rung {
			return row
		}
	}
	return nil
}

// Flags are read strictly.
func TestFlags(t *testing.T) {
	for _, args := range []string{"-rungs fast", "-workloads tcp", "-sizes 1,x", "-sizes 0", "-mode driver", "-rounds -1", "-idle 1,2", "quick"} {
		if _, err := parse(strings.Fields(args)); err == nil {
			t.Errorf("%s: no error", args)
		}
	}
}

// Profiles say where the time of each end went.
func TestProfile(t *testing.T) {
	lab.NeedRoot(t)
	dir := t.TempDir()
	o, err := parse([]string{"-rounds", "1", "-time", "500ms", "-micro", "-1ns", "-out", dir, "-rungs", "latency", "-workloads", "tcp-rtt", "-sizes", "1", "-profile"})
	if err != nil {
		t.Fatal(err)
	}
	if err := run(context.Background(), o); err != nil {
		t.Fatal(err)
	}
	r := read(t, dir)
	if len(r.Spent) != 2 {
		t.Fatalf("%d ends with a profile", len(r.Spent))
	}
	for _, s := range r.Spent {
		// A sample is 10 ms of processor time: where others run too there are few.
		few := s.Samples < 20
		if s.Samples == 0 || s.PerOp <= 0 || len(s.Seconds) == 0 || !few && len(s.Seconds) < 2 {
			t.Errorf("%s of %s: %+v", s.End, s.Case, s)
		}
	}
	for _, name := range []string{"table.txt", "report.html"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !strings.Contains(string(b), "Where the processor time went") {
			t.Errorf("%s does not say where the time went: %v", name, err)
		}
	}
}
