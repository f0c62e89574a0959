package result

import (
	"fmt"
	"io"
	"strings"

	"github.com/onload-go/onload/bench/report"
)

// Markdown writes tables for a README: of each condition one with the ratios
// of requests/s in closed loops and one with those of processor time in the
// others, then the verdicts.
func (r *Report) Markdown(w io.Writer) error {
	var b strings.Builder
	for _, cond := range Conditions() {
		var closed, open []Cell
		for _, g := range r.Layout.Groups() {
			switch {
			case g.Condition != cond, g.Load == Idle:
			case g.Load == Closed:
				closed = append(closed, g)
			default:
				open = append(open, g)
			}
		}
		r.markdownTable(&b, cond+", closed loop: requests/s", report.OpsPerS, closed, func(g Cell) string { return fmt.Sprintf("%d conn.", g.Conns) })
		r.markdownTable(&b, cond+", open loop: processor time for a request", report.CPUPerOp, open, func(g Cell) string { return g.Load })
		r.markdownTable(&b, cond+", open loop: p99", report.P99, open, func(g Cell) string { return g.Load })
	}
	if len(r.Verdicts) > 0 {
		b.WriteString("| promise | wanted | | measured |\n|---|---|---|---|\n")
	}
	for _, v := range r.Verdicts {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", v.Clause, strings.NewReplacer("<=", "≤", ">=", "≥").Replace(v.Want), v.Word(), v.Got)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// markdownTable has a row for each program and for each group a column with
// the ratios of all rungs.
func (r *Report) markdownTable(b *strings.Builder, title, metric string, groups []Cell, name func(Cell) string) {
	if len(groups) == 0 {
		return
	}
	cols := r.Layout.columns()
	var names []string
	for _, c := range cols {
		names = append(names, c.name)
	}
	fmt.Fprintf(b, "%s, as a ratio to the kernel's (%s; median, range over %d rounds)\n\n| program |", title, strings.Join(names, ", "), r.Rounds)
	for _, g := range groups {
		for _, c := range cols {
			fmt.Fprintf(b, " %s, %s |", name(g), c.name)
		}
	}
	fmt.Fprintf(b, "\n|%s\n", strings.Repeat("---|", 1+len(groups)*len(cols)))
	for _, p := range r.Programs {
		fmt.Fprintf(b, "| %s |", p[0])
		for _, g := range groups {
			g.Program = p[0]
			for _, c := range cols {
				f, ok := r.Ratio(g, c.of, c.to, metric)
				fmt.Fprintf(b, " %s |", cell(Ratio(f), ok))
			}
		}
		b.WriteByte('\n')
	}
	b.WriteString("| geometric mean |")
	for _, g := range groups {
		for _, c := range cols {
			m, ok := r.geoMean(r.Layout.Of(g), c, metric)
			fmt.Fprintf(b, " %s |", cell(fmt.Sprintf("%.2f", m), ok))
		}
	}
	b.WriteString("\n\n")
}
