package metrics_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/onload-go/onload/metrics"
)

var update = flag.Bool("update", false, "write the table of docs/metrics.md")

const (
	document   = "../docs/metrics.md"
	tableStart = "<!-- table -->\n"
	tableEnd   = "<!-- end -->\n"
)

// families is what a collector gathers of an engine that listens.
func families(t *testing.T) []*dto.MetricFamily {
	t.Helper()
	_, b := pair(t)
	ln, err := b.Listen("tcp", "10.0.0.2:80")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	r := prometheus.NewRegistry()
	r.MustRegister(metrics.New(b, metrics.Options{}))
	l, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// table lists all metrics of a collector in Markdown.
func table(t *testing.T) string {
	t.Helper()
	var rows []string
	for _, f := range families(t) {
		var labels []string
		for _, l := range f.Metric[0].Label {
			labels = append(labels, l.GetName())
		}
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp()))
	}
	slices.Sort(rows)
	return "\n| name | type | labels | meaning |\n|---|---|---|---|\n" + strings.Join(rows, "") + "\n"
}

// docs/metrics.md lists what a collector has. With -update it is written.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok1 := strings.Cut(string(text), tableStart)
	old, tail, ok2 := strings.Cut(rest, tableEnd)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no table", document)
	}
	want := table(t)
	if *update {
		if err := os.WriteFile(document, []byte(head+tableStart+want+tableEnd+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if old != want {
		t.Errorf("%s is not what a collector has: go test ./metrics -run TestDocument -update", document)
	}
}
