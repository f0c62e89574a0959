package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/onload-go/onload/bench/load"
	"github.com/onload-go/onload/bench/plot"
)

// headline is a column of the table of medians.
type headline struct {
	Name   string
	Case   load.Case
	Metric string
}

func headlines() []headline {
	const mtu = 1500
	return []headline{
		{"TCP RTT p50, µs", load.Case{Workload: load.TCPRTT, Size: 1, MTU: mtu}, P50},
		{"p99.9", load.Case{Workload: load.TCPRTT, Size: 1, MTU: mtu}, P999},
		{"UDP RTT p50", load.Case{Workload: load.UDPRTT, Size: 1, MTU: mtu}, P50},
		{"bulk 1500, Gbit/s", load.Case{Workload: load.Bulk, MTU: mtu}, GbitPerS},
		{"9000", load.Case{Workload: load.Bulk, MTU: 9000}, GbitPerS},
		{"65535", load.Case{Workload: load.Bulk, MTU: 65535}, GbitPerS},
		{"conn./s", load.Case{Workload: load.CRR, Size: 1, MTU: mtu}, OpsPerS},
		{"req./s, 1,000 conn.", load.Case{Workload: load.Requests, Size: 64, Conns: 1000, MTU: mtu}, OpsPerS},
		{"10,000 conn.", load.Case{Workload: load.Requests, Size: 64, Conns: 10_000, MTU: mtu}, OpsPerS},
		{"UDP datagrams/s", load.Case{Workload: load.Packets, Size: SmallDatagram, MTU: mtu}, OpsPerS},
	}
}

// Markdown writes the medians that matter most and the verdicts, for a README.
func (r *Report) Markdown(w io.Writer) error {
	var b strings.Builder
	cols := headlines()
	b.WriteString("| |")
	for _, h := range cols {
		fmt.Fprintf(&b, " %s |", h.Name)
	}
	fmt.Fprintf(&b, "\n|%s\n", strings.Repeat("---|", len(cols)+1))
	for _, rung := range r.rungNames {
		fmt.Fprintf(&b, "| `%s` |", rung)
		for _, h := range cols {
			cell := ""
			if row := r.find(h.Case, rung); row != nil && row.Rounds > 0 {
				cell = grouped(row.Metrics[h.Metric].Median)
			}
			fmt.Fprintf(&b, " %s |", cell)
		}
		b.WriteByte('\n')
	}
	b.WriteString("\n| target | ratio of (else a bound) | wanted | median (range over rounds) | |\n|---|---|---|---|---|\n")
	for i := 0; i < len(r.Verdicts); {
		n, met := 0, 0
		var got []string
		for _, v := range r.Verdicts[i:] {
			if v.Target != r.Verdicts[i].Target {
				break
			}
			n++
			if v.Pass {
				met++
			}
			got = append(got, fmt.Sprintf("%s (%s to %s)", grouped(v.Ratio.Median), grouped(v.Ratio.Min), grouped(v.Ratio.Max)))
		}
		if n > 1 {
			for k, v := range r.Verdicts[i : i+n] {
				got[k] = shortCase(v.Case) + ": " + got[k]
			}
		}
		v := r.Verdicts[i]
		word := "missed"
		if met == n {
			word = "met"
		} else if met > 0 {
			word = fmt.Sprintf("%d of %d met", met, n)
		}
		of := "`" + v.Of + "`"
		if v.To != "" {
			of += "/`" + v.To + "`"
		}
		want := strings.NewReplacer("<=", "≤", ">=", "≥").Replace(v.Want)
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", v.Target, of, want, strings.Join(got, "; "), word)
		i += n
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// shortCase is what tells the cases of a bulk target apart.
func shortCase(name string) string {
	dir, mtu := "up", ""
	for _, p := range strings.Split(name, "/") {
		if v, ok := strings.CutPrefix(p, "mtu="); ok {
			mtu = v
		}
		if v, ok := strings.CutPrefix(p, "dir="); ok {
			dir = v
		}
	}
	return mtu + " " + dir
}

// grouped is Number with all figures of whole numbers, by thousands.
func grouped(v float64) string {
	if v < 1000 {
		return plot.Number(v)
	}
	unit := 1.0
	for v/unit >= 1000 {
		unit *= 10
	}
	n := int64(v/unit+0.5) * int64(unit) // three figures that count
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
