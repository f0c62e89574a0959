package report

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/onload-go/onload/bench/load"
	"github.com/onload-go/onload/bench/plot"
)

// columns of the table of a workload.
func columns(workload string) []string {
	switch workload {
	case load.Bulk:
		return []string{GbitPerS, CPUPerGB}
	case load.Packets:
		return []string{OpsPerS, LostPct, CPUPerOp}
	case load.Idle:
		return []string{HeapConn, RSSConn, HeapCli, RSSCli}
	case load.OpenLoop:
		return []string{P50, P99, P999, MaxUS, OpsPerS, LostPct}
	case load.CRR, load.Requests:
		return []string{OpsPerS, P50, P99, P999, CPUPerOp}
	}
	return []string{P50, P90, P99, P999, MaxUS, CPUPerOp}
}

// label is the heading of a column.
func label(workload, metric string) string {
	if strings.HasSuffix(metric, "-us") && (workload == load.TCPRTT || workload == load.UDPRTT) {
		return "RTT " + metric
	}
	if workload == load.OpenLoop && metric == LostPct {
		return "unanswered-%"
	}
	return metric
}

// Table writes the report for a terminal: medians over the rounds, and the
// range of the main metric.
func (r *Report) Table(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	for _, c := range r.Cases {
		cols := columns(c.Workload)
		head, _ := Main(c.Workload)
		fmt.Fprintf(tw, "%s\t", c)
		for _, col := range cols {
			fmt.Fprintf(tw, "%s\t", label(c.Workload, col))
		}
		fmt.Fprintf(tw, "%s over rounds\tothers-%%\t\n", head)
		for _, row := range r.Rows {
			if row.Params != c {
				continue
			}
			fmt.Fprintf(tw, "%s\t", row.Rung)
			if row.Rounds == 0 {
				fmt.Fprintf(tw, "FAILED in all %d rounds\t\n", row.Failed)
				continue
			}
			for _, col := range cols {
				cell := "-"
				if f, ok := row.Metrics[col]; ok {
					cell = plot.Number(f.Median)
				}
				fmt.Fprintf(tw, "%s\t", cell)
			}
			f := row.Metrics[head]
			fmt.Fprintf(tw, "%s to %s\t%s\t", plot.Number(f.Min), plot.Number(f.Max), plot.Number(row.Metrics[Others].Median))
			if row.Failed > 0 {
				fmt.Fprintf(tw, "failed in %d of %d rounds\t", row.Failed, row.Failed+row.Rounds)
			}
			fmt.Fprintln(tw)
		}
		fmt.Fprintln(tw)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	return r.verdictTable(w)
}

func (r *Report) verdictTable(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	if len(r.Verdicts) > 0 {
		fmt.Fprintln(tw, "target\tcase\tratio of\twant\tgot (median, range)\tverdict")
	}
	for _, v := range r.Verdicts {
		fmt.Fprintf(tw, "%s\t%s\t%s %s\t%s\t%s (%s to %s)\t%s\n", v.Target, v.Case, v.Metric, v.Ratios(), v.Want,
			plot.Number(v.Ratio.Median), plot.Number(v.Ratio.Min), plot.Number(v.Ratio.Max), v.Word())
	}
	if len(r.Micro) > 0 {
		fmt.Fprintln(tw, "\nin one process\tstack\tns/op (median, range)\tGbit/s\tB/conn\tB/op\tallocs/op")
	}
	for _, m := range r.Micro {
		fmt.Fprintf(tw, "%s\t%s\t%s (%s to %s)\t%s\t%s\t%d\t%d\n", m.Name, m.Stack, plot.Number(m.NsPerOp.Median), plot.Number(m.NsPerOp.Min), plot.Number(m.NsPerOp.Max),
			plot.Number(m.GbitPerS.Median), plot.Number(m.BytesPerConn.Median), m.BytesPerOp, m.AllocsPerOp)
	}
	fmt.Fprintln(tw)
	if t := r.spentTable(); t != nil {
		fmt.Fprintf(tw, "%s\n\t%s\n", t.Name, strings.Join(t.Columns, "\t"))
		for _, row := range t.Rows {
			fmt.Fprintf(tw, "%s\t%s\n", row.Rung, strings.Join(row.Cells, "\t"))
		}
		fmt.Fprintln(tw)
	}
	for _, l := range r.Failures {
		fmt.Fprintln(tw, "FAILED:", l)
	}
	for _, l := range r.Limits {
		fmt.Fprintln(tw, "note:", l)
	}
	return tw.Flush()
}

// Ratios names numerator and denominator.
func (v Verdict) Ratios() string {
	if v.To == "" {
		return v.Of
	}
	return v.Of + "/" + v.To
}

// Word is the verdict.
func (v Verdict) Word() string {
	s := "missed"
	if v.Pass {
		s = "met"
	}
	if !v.Clear {
		s += ", but not in every round"
	}
	return s
}
