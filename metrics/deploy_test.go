package metrics_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v2"

	"github.com/onload-go/onload/internal/testlong"
)

// use is a selector of a metric of ours: its name, and what is in the braces.
var use = regexp.MustCompile(`\b(onload_\w+)(?:\{([^}]*)\})?`)

var (
	matcher = regexp.MustCompile(`(\w+)(?:=~|!~|=|!=)"`)
	by      = regexp.MustCompile(`\bby \(([^)]*)\)`)
)

// labels are those of each metric, with those that a scrape adds.
func labels(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for _, f := range families(t) {
		l := []string{"job", "instance"}
		for _, p := range f.Metric[0].Label {
			l = append(l, p.GetName())
		}
		all[f.GetName()] = l
	}
	return all
}

// faults are the metrics and labels of a query that no collector has. A counter that is
// not the argument of rate or increase is one too: its value means nothing.
func faults(expr string, have map[string][]string) (wrong []string) {
	uses := use.FindAllStringSubmatchIndex(expr, -1)
	if len(uses) == 0 {
		return []string{"no metric in " + expr}
	}
	var all []string
	for _, u := range uses {
		name := expr[u[2]:u[3]]
		l, ok := have[name]
		if !ok {
			wrong = append(wrong, name)
			continue
		}
		all = append(all, l...)
		if u[4] >= 0 {
			for _, m := range matcher.FindAllStringSubmatch(expr[u[4]:u[5]], -1) {
				if !slices.Contains(l, m[1]) {
					wrong = append(wrong, name+" has no label "+m[1])
				}
			}
		}
		if before := expr[:u[0]]; strings.HasSuffix(name, "_total") && !strings.HasSuffix(before, "rate(") && !strings.HasSuffix(before, "increase(") {
			wrong = append(wrong, name+" without rate")
		}
	}
	for _, m := range by.FindAllStringSubmatch(expr, -1) {
		for l := range strings.SplitSeq(m[1], ",") {
			if l = strings.TrimSpace(l); !slices.Contains(all, l) {
				wrong = append(wrong, "by "+l)
			}
		}
	}
	return wrong
}

// The checker itself.
func TestFaults(t *testing.T) {
	have := map[string][]string{"onload_conns": {"interface"}, "onload_polls_total": {"interface"}}
	for expr, want := range map[string]int{
		`sum by (interface) (onload_conns{interface="eth0"})`: 0,
		`rate(onload_polls_total[5m]) / onload_conns`:         0,
		`onload_gone`:               1,
		`onload_conns{queue="0"}`:   1,
		`onload_polls_total`:        1,
		`sum by (x) (onload_conns)`: 1,
		`up`:                        1,
	} {
		if got := faults(expr, have); len(got) != want {
			t.Errorf("%s: %q", expr, got)
		}
	}
}

// deploy/grafana has queries of metrics and labels that there are.
func TestDashboard(t *testing.T) {
	text, err := os.ReadFile("../deploy/grafana/onload.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Panels []struct {
			ID          int
			Type, Title string
			GridPos     struct{ X, Y, W, H int }
			Targets     []struct{ Expr, LegendFormat string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	have := labels(t)
	ids := map[int]bool{}
	queries := 0
	for i, p := range board.Panels {
		if ids[p.ID] {
			t.Errorf("two panels have ID %d", p.ID)
		}
		ids[p.ID] = true
		for _, q := range board.Panels[:i] {
			if a, b := p.GridPos, q.GridPos; a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("%s lies on %s", p.Title, q.Title)
			}
		}
		for _, q := range p.Targets {
			queries++
			for _, w := range faults(q.Expr, have) {
				t.Errorf("%s: %s", p.Title, w)
			}
		}
	}
	if queries == 0 {
		t.Error("no queries")
	}
}

// deploy/prometheus has alerts on metrics that there are. With -long promtool checks the
// file, if the machine has it.
func TestAlerts(t *testing.T) {
	files, err := filepath.Glob("../deploy/prometheus/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	have := labels(t)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var f struct {
			Groups []struct {
				Name  string
				Rules []struct {
					Alert, Expr, For    string
					Labels, Annotations map[string]string
				}
			}
		}
		if err := yaml.UnmarshalStrict(text, &f); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		rules := 0
		for _, g := range f.Groups {
			for _, r := range g.Rules {
				rules++
				if r.Alert == "" || r.Annotations["summary"] == "" || r.Labels["severity"] == "" {
					t.Errorf("%s: %+v lacks a name, summary or severity", file, r)
				}
				for _, w := range faults(r.Expr, have) {
					t.Errorf("%s: %s: %s", file, r.Alert, w)
				}
			}
		}
		if rules == 0 {
			t.Errorf("%s has no rules", file)
		}
		if !testlong.Enabled() {
			continue
		}
		promtool, err := exec.LookPath("promtool")
		if err != nil {
			t.Skip("promtool is not there (apt-get install prometheus)")
		}
		if out, err := exec.Command(promtool, "check", "rules", file).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
}
