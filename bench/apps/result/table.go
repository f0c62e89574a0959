package result

import (
	"fmt"
	"io"
	"math"
	"text/tabwriter"

	"github.com/onload-go/onload/bench/report"
)

// Layout says what a table holds: for each cell a row with the figures of Base
// and the ratios of Rungs to it.
type Layout struct {
	Base  string
	Rungs []string
	Cells []Cell
	// Pairs are further ratios, of one rung to another.
	Pairs [][2]string
}

// Metrics are those that tables compare, in their order.
func Metrics() []string {
	return []string{report.OpsPerS, report.P50, report.P99, report.CPUPerOp}
}

// column is a ratio.
type column struct{ name, of, to string }

func (l *Layout) columns() (cs []column) {
	for _, g := range l.Rungs {
		if g != l.Base {
			cs = append(cs, column{g, g, l.Base})
		}
	}
	for _, p := range l.Pairs {
		cs = append(cs, column{p[0] + " / " + p[1], p[0], p[1]})
	}
	return cs
}

// Table writes ratios, a table for each metric: medians over the rounds with
// their range, and below each condition's and load's rows geometric means.
func (s *Set) Table(w io.Writer, l *Layout) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	cols := l.columns()
	for _, metric := range Metrics() {
		fmt.Fprintf(tw, "%s\t%s\t", metric, l.Base)
		for _, c := range cols {
			fmt.Fprintf(tw, "%s\t", c.name)
		}
		fmt.Fprintln(tw)
		for i, c := range l.Cells {
			f, ok := s.Figure(c, l.Base, metric)
			fmt.Fprintf(tw, "%s\t%s\t", c, cell(report.Number(f.Median), ok))
			for _, col := range cols {
				r, ok := s.Ratio(c, col.of, col.to, metric)
				fmt.Fprintf(tw, "%s\t", cell(Ratio(r), ok))
			}
			fmt.Fprintln(tw)
			if last := i+1 == len(l.Cells) || group(l.Cells[i+1]) != group(c); last && len(cols) > 0 {
				fmt.Fprint(tw, "geometric mean\t\t")
				for _, col := range cols {
					g, ok := s.GeoMean(l, group(c), col.of, col.to, metric)
					fmt.Fprintf(tw, "%s\t", cell(fmt.Sprintf("%.2f", g), ok))
				}
				fmt.Fprintln(tw)
				fmt.Fprintln(tw)
			}
		}
	}
	return tw.Flush()
}

func cell(s string, ok bool) string {
	if !ok {
		return "-"
	}
	return s
}

// Ratio is a ratio in words, with its range.
func Ratio(f report.Figure) string {
	return fmt.Sprintf("%.2f (%.2f-%.2f)", f.Median, f.Min, f.Max)
}

// group is what cells have in common that share a geometric mean: all but the
// program.
func group(c Cell) Cell {
	c.Program = ""
	return c
}

// GeoMean is the geometric mean over programs of the medians of a ratio.
func (s *Set) GeoMean(l *Layout, g Cell, of, to, metric string) (float64, bool) {
	sum, n := 0., 0
	for _, c := range l.Cells {
		if group(c) != g {
			continue
		}
		if r, ok := s.Ratio(c, of, to, metric); ok {
			sum += math.Log(r.Median)
			n++
		}
	}
	return math.Exp(sum / float64(n)), n > 0
}
