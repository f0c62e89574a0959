package report

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/onload-go/onload/bench/load"
)

// Write writes every file of the report into dir.
func (r *Report) Write(dir string) error {
	for name, write := range map[string]func(io.Writer) error{
		"report.json":   r.JSON,
		"report.html":   r.HTML,
		"table.txt":     r.Table,
		"readme.md":     r.Markdown,
		"benchstat.txt": r.Benchstat,
		"pingpong.tsv":  r.TSV,
	} {
		if err := toFile(filepath.Join(dir, name), write); err != nil {
			return err
		}
	}
	return r.histograms(filepath.Join(dir, "hist"))
}

func toFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	err = write(w)
	if err == nil {
		err = w.Flush()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// JSON writes all but the histograms.
func (r *Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "\t")
	return e.Encode(r)
}

// Benchstat writes a line for each run, in the format of go test -bench, so
// that benchstat compares rungs (-col /rung) or reports.
func (r *Report) Benchstat(w io.Writer) error {
	fmt.Fprintf(w, "goos: %s\ngoarch: %s\npkg: github.com/onload-go/onload/bench\ncpu: %s\n",
		strings.Split(r.Machine.OS, "/")[0], strings.Split(r.Machine.OS, "/")[1], r.Machine.CPU)
	for _, run := range r.Runs {
		if run.Error != "" {
			continue
		}
		m := run.metrics()
		fmt.Fprintf(w, "Benchmark/rung=%s/workload=%s %d", run.Rung, run.Case, max(1, run.Ops))
		for _, k := range slices.Sorted(mapKeys(m)) {
			fmt.Fprintf(w, " %.6g %s", m[k], k)
		}
		fmt.Fprintln(w)
	}
	for _, m := range r.MicroRuns {
		fmt.Fprintf(w, "Benchmark/rung=%s-memory/workload=%s %d %.6g ns/op %d B/op %d allocs/op\n", m.Stack, m.Name, m.N, m.NsPerOp, m.BytesPerOp, m.AllocsPerOp)
	}
	return nil
}

func mapKeys(m map[string]float64) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// TSV writes the ping-pongs in the columns of sfnt-pingpong: nanoseconds of
// half a round trip, as that program prints by default.
func (r *Report) TSV(w io.Writer) error {
	for _, d := range r.RungDocs {
		for _, wl := range []string{load.TCPRTT, load.UDPRTT} {
			head := false
			for _, row := range r.Rows {
				h := row.hist
				if row.Rung != d[0] || row.Params.Workload != wl || h == nil || h.TotalCount() == 0 {
					continue
				}
				if !head {
					fmt.Fprintf(w, "# rung: %s (%s)\n# workload: %s, mtu %d, all %d rounds; 1/2 RTT, ns\n", d[0], d[1], wl, row.Params.MTU, row.Rounds)
					fmt.Fprintln(w, "#\tsize\tmean\tmin\tmedian\tmax\t%ile\tstddev\titer")
					head = true
				}
				fmt.Fprintf(w, "\t%d\t%.0f\t%d\t%d\t%d\t%d\t%.0f\t%d\n", row.Params.Size, h.Mean()/2, h.Min()/2, h.ValueAtPercentile(50)/2,
					h.Max()/2, h.ValueAtPercentile(99)/2, h.StdDev()/2, h.TotalCount())
			}
			if head {
				fmt.Fprintln(w)
			}
		}
	}
	return nil
}

// FileName makes a file name of the names of a case and a rung.
func FileName(parts ...string) string {
	return strings.NewReplacer("/", "_", "=", "", " ", "").Replace(strings.Join(parts, "."))
}

// histograms writes for each case and rung a HdrHistogram log, with an
// interval for each round, and the percentiles over all.
func (r *Report) histograms(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, row := range r.Rows {
		if row.hist == nil {
			continue
		}
		base := filepath.Join(dir, FileName(row.Case, row.Rung))
		err := toFile(base+".hgrm", func(w io.Writer) error {
			_, err := row.hist.PercentilesPrint(w, 5, 1000) // microseconds
			return err
		})
		if err != nil {
			return err
		}
		err = toFile(base+".hlog", func(w io.Writer) error { return r.histogramLog(w, row) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *Report) histogramLog(w io.Writer, row *Row) error {
	l := hdrhistogram.NewHistogramLogWriter(w)
	began := r.Began.UnixMilli()
	if err := l.OutputLogFormatVersion(); err != nil {
		return err
	}
	if err := l.OutputComment("[" + row.Case + " on " + row.Rung + ", ns; the intervals are rounds, their times are not kept]"); err != nil {
		return err
	}
	if err := l.OutputStartTime(began); err != nil {
		return err
	}
	if err := l.OutputLegend(); err != nil {
		return err
	}
	for _, run := range r.Runs {
		if run.hist == nil || run.Case != row.Params || run.Rung != row.Rung {
			continue
		}
		run.hist.SetStartTimeMs(began + int64(run.Round)*r.Duration.Milliseconds())
		run.hist.SetEndTimeMs(began + int64(run.Round+1)*r.Duration.Milliseconds())
		if err := l.OutputIntervalHistogram(run.hist); err != nil {
			return err
		}
	}
	return nil
}
