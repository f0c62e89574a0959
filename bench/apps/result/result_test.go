package result

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/onload-go/onload/bench/report"
)

// made is a report of requests/s by program, rung and round.
func made(t *testing.T, where Cell, values map[string]map[string][]float64) *Report {
	t.Helper()
	r := &Report{Layout: Layout{Base: "kernel", Rungs: []string{"kernel", "S", "C", "SC"}}}
	for program, rungs := range values {
		c := where
		c.Program = program
		r.Layout.Cells = append(r.Layout.Cells, c)
		r.Programs = append(r.Programs, [2]string{program, ""})
		for rung, rounds := range rungs {
			r.Rounds = len(rounds)
			for round, v := range rounds {
				run := &Run{Cell: c, Rung: rung, Round: round, Metrics: map[string]float64{report.OpsPerS: v}}
				if err := r.Add(run); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	r.Finish()
	return r
}

// Ratios are taken within a round: noise that lasts longer cancels out.
func TestRatioWithinRound(t *testing.T) {
	r := made(t, Cell{Condition: Cores, Load: Closed, Conns: 1}, map[string]map[string][]float64{
		"net/http": {"kernel": {100, 10, 1000}, "SC": {200, 30, 1000}},
	})
	f, ok := r.Ratio(r.Layout.Cells[0], "SC", "kernel", report.OpsPerS)
	if !ok || f != (report.Figure{Median: 2, Min: 1, Max: 3}) {
		t.Errorf("%v, %v", f, ok)
	}
	if _, ok := r.Ratio(r.Layout.Cells[0], "S", "kernel", report.OpsPerS); ok {
		t.Error("a ratio of what did not run")
	}
}

func TestGeoMean(t *testing.T) {
	r := made(t, Cell{Condition: Cores, Load: Closed, Conns: 32}, map[string]map[string][]float64{
		"net/http": {"kernel": {100}, "SC": {400}},
		"redis":    {"kernel": {100}, "SC": {100}},
	})
	m, ok := r.geoMean(r.Layout.Cells, column{"SC", "SC", "kernel"}, report.OpsPerS)
	if !ok || math.Abs(m-2) > 1e-9 {
		t.Errorf("%v, %v", m, ok)
	}
}

func verdictOf(t *testing.T, r *Report, clause string) *Verdict {
	t.Helper()
	for i := range r.Verdicts {
		if strings.HasPrefix(r.Verdicts[i].Clause, clause) {
			return &r.Verdicts[i]
		}
	}
	t.Fatalf("no verdict %q", clause)
	return nil
}

// Targets go by the median; that no cell loses, by every round.
func TestVerdicts(t *testing.T) {
	const target, never = "SC at 1 connection, a processor each: net/http", "closed loop, cores: no cell has fewer"
	for _, c := range []struct {
		sc               []float64
		met, neverLoses  bool
		wantMissedClause int
	}{
		{[]float64{3.0, 3.6, 3.7}, true, true, 0},
		{[]float64{3.0, 3.4, 3.7}, false, true, 0},
		{[]float64{0.5, 0.9, 1.0}, false, true, 0}, // one round did not lose
		{[]float64{0.5, 0.9, 0.94}, false, false, 1},
	} {
		r := made(t, Cell{Condition: Cores, Load: Closed, Conns: 1}, map[string]map[string][]float64{"net/http": {"kernel": {1, 1, 1}, "SC": c.sc}})
		if v := verdictOf(t, r, target); v.Met != c.met {
			t.Errorf("%v: %+v", c.sc, v)
		}
		if v := verdictOf(t, r, never); v.Met != c.neverLoses || len(v.Missed) != c.wantMissedClause {
			t.Errorf("%v: %+v", c.sc, v)
		}
	}
}

// The mean over programs is judged by the median over the rounds.
func TestMeanVerdict(t *testing.T) {
	r := made(t, Cell{Condition: Cores, Load: Closed, Conns: 512}, map[string]map[string][]float64{
		"net/http": {"kernel": {1, 1, 1}, "SC": {1, 4, 2}, "S": {1, 1, 1}},
		"redis":    {"kernel": {1, 1, 1}, "SC": {1, 1, 0.9}, "S": {1, 1, 1}},
	})
	if v := verdictOf(t, r, "SC at 512"); !v.Met || v.Got != "1.34 (1.00-2.00)" {
		t.Errorf("%+v", v)
	}
	if v := verdictOf(t, r, "S at 512"); v.Met {
		t.Errorf("%+v", v)
	}
}

// Tables have every program, and the mean below them.
func TestTables(t *testing.T) {
	r := made(t, Cell{Condition: OneCore, Load: Closed, Conns: 32}, map[string]map[string][]float64{
		"net/http": {"kernel": {100}, "SC": {400}, "S": {100}},
		"redis":    {"kernel": {100}, "SC": {100}},
	})
	var txt, md, page bytes.Buffer
	for _, err := range []error{r.Text(&txt), r.Markdown(&md), r.HTML(&page)} {
		if err != nil {
			t.Error(err)
		}
	}
	if want := "onecore, closed, 32 conn., ops/s"; !strings.Contains(txt.String(), want) {
		t.Errorf("text lacks %q:\n%s", want, txt.String())
	}
	for _, want := range []string{"| net/http | 1.00 | - | 4.00 |", "| redis | - | - | 1.00 |", "| geometric mean | 1.00 | - | 2.00 |"} {
		if !strings.Contains(md.String(), want) {
			t.Errorf("markdown lacks %q:\n%s", want, md.String())
		}
	}
	if n := strings.Count(page.String(), "<svg"); n != 1 {
		t.Errorf("%d plots", n)
	}
}
