package result

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"

	"github.com/onload-go/onload/bench/plot"
	"github.com/onload-go/onload/bench/report"
)

//go:embed page.html
var page string

var pageTemplate = report.Page(page)

// section is a condition on the page.
type section struct {
	Condition string
	Charts    []chart
	Tables    []table
}

type chart struct {
	Title string
	SVG   template.HTML
}

type table struct {
	Name    string
	Columns []string
	Rows    [][]string
}

// HTML writes the page, which needs no other file.
func (r *Report) HTML(w io.Writer) error {
	data := struct {
		*Report
		Sections []section
		Facts    [][2]string
	}{Report: r, Facts: r.Machine.Facts()}
	for _, cond := range Conditions() {
		s := section{Condition: cond}
		for _, g := range r.Layout.Groups() {
			if g.Condition != cond {
				continue
			}
			for _, m := range charted(g.Load) {
				if c, ok := r.chart(g, m); ok {
					s.Charts = append(s.Charts, chart{c.Title, template.HTML(c.SVG())})
				}
			}
			s.Tables = append(s.Tables, r.table(g))
		}
		if len(s.Tables) > 0 {
			data.Sections = append(data.Sections, s)
		}
	}
	return pageTemplate.Execute(w, data)
}

// charted are the metrics of a load that are plotted.
func charted(load string) []string {
	switch load {
	case Closed:
		return []string{report.OpsPerS, report.P99}
	case Idle:
		return nil
	}
	return []string{report.CPUPerOp, report.P99}
}

// chart has for each program a bar for each ratio.
func (r *Report) chart(g Cell, metric string) (*plot.Chart, bool) {
	c := &plot.Chart{Title: fmt.Sprintf("%s: %s", g.Where(), metric), YLabel: metric + " as a ratio to the kernel's", Ref: 1}
	cells := r.Layout.Of(g)
	for _, cell := range cells {
		c.Groups = append(c.Groups, cell.Program)
	}
	for _, col := range r.Layout.columns() {
		s := plot.Series{Name: col.name}
		for i, cell := range cells {
			if f, ok := r.Ratio(cell, col.of, col.to, metric); ok {
				s.Points = append(s.Points, plot.Point{X: float64(i), Y: f.Median, Lo: f.Min, Hi: f.Max})
			}
		}
		c.Series = append(c.Series, s)
	}
	c.Series = slices.DeleteFunc(c.Series, func(s plot.Series) bool { return len(s.Points) == 0 })
	return c, len(c.Series) > 0
}

// table has the figures of each program on each rung.
func (r *Report) table(g Cell) table {
	metrics := []string{report.OpsPerS, report.P50, report.P99, report.P999, CPUClient, CPUServer, report.CPUPerOp, Late, Unanswered, report.LostPct, report.Others}
	if g.Load == Idle {
		metrics = []string{IdleCPU, report.Others}
	} else if g.Load == Closed {
		metrics = slices.DeleteFunc(metrics, func(m string) bool { return m == Late || m == Unanswered })
	}
	t := table{Name: g.Where(), Columns: append([]string{"program", "rung"}, metrics...)}
	if g.Load != Idle {
		t.Columns = append(t.Columns, report.OpsPerS+" ratio", report.P99+" ratio", report.CPUPerOp+" ratio")
	}
	for _, row := range r.Rows {
		where := row.Cell
		if where.Program = ""; where != g {
			continue
		}
		cells := []string{row.Program, row.Rung}
		for _, m := range metrics {
			f, ok := row.Metrics[m]
			cells = append(cells, cell(plot.Number(f.Median), ok))
		}
		if g.Load != Idle {
			for _, m := range []string{report.OpsPerS, report.P99, report.CPUPerOp} {
				f, ok := row.ToKernel[m]
				cells = append(cells, cell(Ratio(f), ok))
			}
		}
		if row.Failed > 0 {
			cells[1] += fmt.Sprintf(" (failed in %d of %d rounds)", row.Failed, row.Failed+row.Rounds)
		}
		t.Rows = append(t.Rows, cells)
	}
	return t
}
