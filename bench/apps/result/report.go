package result

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/onload-go/onload/bench/report"
)

// Report is everything.
type Report struct {
	Command  string
	Began    time.Time
	Took     time.Duration
	Rounds   int
	Duration time.Duration // measured at least for each cell, rung and round
	Machine  report.Machine
	Layout   Layout
	Programs [][2]string // names and what they are
	Limits   []string    // what a reader must know of every run
	Notes    []string    // and of this one
	Failures []string
	Verdicts []Verdict
	Rows     []Row
	Set
}

// Row is a cell on a rung over the rounds.
type Row struct {
	Cell
	Rung     string
	Rounds   int // with a result
	Failed   int
	Metrics  map[string]report.Figure
	ToKernel map[string]report.Figure `json:",omitempty"` // ratios
}

// Finish computes rows and verdicts.
func (r *Report) Finish() {
	for _, c := range r.Layout.Cells {
		for _, g := range r.Layout.Rungs {
			row := Row{Cell: c, Rung: g, Metrics: map[string]report.Figure{}, ToKernel: map[string]report.Figure{}}
			for _, run := range r.Runs {
				if run.Cell != c || run.Rung != g {
					continue
				}
				if run.Error != "" {
					row.Failed++
					continue
				}
				row.Rounds++
				for m := range run.Metrics {
					row.Metrics[m], _ = r.Figure(c, g, m)
					if f, ok := r.Ratio(c, g, r.Layout.Base, m); ok && g != r.Layout.Base {
						row.ToKernel[m] = f
					}
				}
			}
			if row.Rounds+row.Failed > 0 {
				r.Rows = append(r.Rows, row)
			}
		}
	}
	r.judge()
}

// Write writes every file of the report into dir.
func (r *Report) Write(dir string) error {
	for name, write := range map[string]func(io.Writer) error{
		"apps.json": r.JSON,
		"apps.html": r.HTML,
		"apps.md":   r.Markdown,
		"apps.txt":  r.Text,
	} {
		if err := toFile(filepath.Join(dir, name), write); err != nil {
			return err
		}
	}
	return nil
}

func toFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	return errors.Join(write(w), w.Flush(), f.Close())
}

// JSON writes all but the histograms.
func (r *Report) JSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "\t")
	return e.Encode(r)
}

// Text writes the report for a terminal.
func (r *Report) Text(w io.Writer) error {
	return errors.Join(r.Table(w, &r.Layout), r.verdictText(w))
}
