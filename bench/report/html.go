package report

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
)

//go:embed page.html
var page string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{"num": Number}).Parse(page))

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
		// chart.svg escapes the names that it takes from elsewhere.
		data.Charts = append(data.Charts, drawing{c.title, c.note, template.HTML(c.svg())})
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
					cell = Number(f.Median)
				}
				tr.Cells = append(tr.Cells, cell)
			}
			f := row.Metrics[head]
			tr.Cells = slices.Insert(tr.Cells, len(cols), Number(f.Min)+" to "+Number(f.Max))
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
	m := &r.Machine
	var on, off []string
	for name, v := range m.Offloads {
		if v {
			on = append(on, name)
		} else {
			off = append(off, name)
		}
	}
	slices.Sort(on)
	slices.Sort(off)
	var modes []string
	for _, row := range r.Rows {
		for _, p := range strings.Split(row.Paths, " <-> ") {
			if p != "" && !slices.Contains(modes, p) {
				modes = append(modes, p)
			}
		}
	}
	slices.Sort(modes)
	facts := [][2]string{
		{"CPU", fmt.Sprintf("%s, %d processors", m.CPU, m.CPUs)}, {"kernel", m.Kernel}, {"Go", m.Go + " " + m.OS}, {"revision", m.Revision},
		{"interface", m.Driver}, {"XDP mode asked", r.XDPMode}, {"paths got", strings.Join(modes, "; ")}, {"pinning", m.Pinning},
		{"congestion control of the kernel", m.Congestion}, {"busy polling", m.BusyPoll}, {"GOGC, GOMEMLIMIT", m.GOGC + ", " + m.MemLimit},
		{"load before", m.Load}, {"offloads on", strings.Join(on, " ")}, {"offloads off", strings.Join(off, " ")},
		{"modules", strings.Join(m.Modules, ", ")}, {"remarks", strings.Join(m.Notes, "; ")},
	}
	return slices.DeleteFunc(facts, func(f [2]string) bool { return f[1] == "" })
}
