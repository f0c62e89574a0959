package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"

	"github.com/onload-go/onload/bench/plot"
)

//go:embed page.html
var page string

var pageTemplate = Page(page)

// drawing is a chart on the page.
type drawing struct {
	Title, Note string
	SVG         template.HTML
}

type tableRow struct {
	Rung  string
	Cells []string
	Path  string
}

type table struct {
	Name    string
	Columns []string
	Rows    []tableRow
}

// HTML writes the page, which needs no other file.
func (r *Report) HTML(w io.Writer) error {
	data := struct {
		*Report
		Charts []drawing
		Tables []table
		Facts  [][2]string
		Where  *table
	}{Report: r, Tables: r.tables(), Facts: r.facts(), Where: r.spentTable()}
	for _, c := range r.charts() {
		data.Charts = append(data.Charts, drawing{c.Title, c.Note, template.HTML(c.SVG())})
	}
	return pageTemplate.Execute(w, data)
}

func (r *Report) tables() (ts []table) {
	for _, c := range r.Cases {
		t := table{Name: c.String()}
		head, _ := Main(c.Workload)
		cols := columns(c.Workload)
		for _, col := range cols {
			t.Columns = append(t.Columns, label(c.Workload, col))
		}
		t.Columns = append(t.Columns, head+" over rounds", Others, "rounds")
		for _, row := range r.Rows {
			if row.Params != c {
				continue
			}
			tr := tableRow{Rung: row.Rung, Path: row.Paths}
			for _, col := range append(slices.Clone(cols), Others) {
				cell := "-"
				if f, ok := row.Metrics[col]; ok {
					cell = plot.Number(f.Median)
				}
				tr.Cells = append(tr.Cells, cell)
			}
			f := row.Metrics[head]
			tr.Cells = slices.Insert(tr.Cells, len(cols), plot.Number(f.Min)+" to "+plot.Number(f.Max))
			n := fmt.Sprint(row.Rounds)
			if row.Failed > 0 {
				n = fmt.Sprintf("%d, %d failed", row.Rounds, row.Failed)
			}
			tr.Cells = append(tr.Cells, n)
			t.Rows = append(t.Rows, tr)
		}
		ts = append(ts, t)
	}
	return ts
}

func (r *Report) facts() [][2]string {
	var modes []string
	for _, row := range r.Rows {
		for _, p := range strings.Split(row.Paths, " <-> ") {
			if p != "" && !slices.Contains(modes, p) {
				modes = append(modes, p)
			}
		}
	}
	slices.Sort(modes)
	return append(r.Machine.Facts(), [2]string{"XDP mode asked", r.XDPMode}, [2]string{"paths got", strings.Join(modes, "; ")})
}
