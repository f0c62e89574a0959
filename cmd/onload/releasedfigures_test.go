package main

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/onload-go/onload/internal/lab"
)

var figureRounds = flag.Int("released.figures", 0, "how many rounds TestReleasedFigures measures")

// TestReleasedFigures prints requests/s and p99 of released programs beside the same
// built by the go command, interleaved, with a processor for the server and one for the
// client. It judges errors only.
func TestReleasedFigures(t *testing.T) {
	needReleases(t)
	if *figureRounds == 0 {
		t.Skip("measures; -released.figures")
	}
	if runtime.NumCPU() < 2 {
		t.Fatal("needs two processors")
	}
	for _, r := range releases {
		t.Run(r.name, func(t *testing.T) {
			kernel := r.pinned(t, true)
			stack := r.pinned(t, false)
			w := tabwriter.NewWriter(os.Stdout, 0, 8, 2, ' ', 0)
			fmt.Fprintf(w, "%s\tusers\tkernel req/s\tonload\tratio\tkernel p99 us\tonload\tratio\n", r.name)
			for _, u := range r.uses {
				for _, users := range []int{1, 32} {
					compare(t, w, kernel, stack, u, users)
				}
			}
			w.Flush()
		})
	}
}

// pinned starts a release on a processor of its own, in namespaces of its own.
func (r *release) pinned(t *testing.T, plain bool) *served {
	t.Helper()
	own := *r
	own.command = func(s *served) (args, env []string) {
		args, env = r.command(s)
		return onProcessor("0", args), env
	}
	own.uses = nil
	return own.serve(t, lab.NewPair(t, lab.Options{}), r.programs(t, plain), false)
}

func onProcessor(n string, args []string) []string {
	return append([]string{"taskset", "-c", n}, args...)
}

const measured = 500 * time.Millisecond

// compare measures one use in turns and prints the medians.
func compare(t *testing.T, w *tabwriter.Writer, kernel, stack *served, u use, users int) {
	t.Helper()
	pinnedUse := u
	pinnedUse.command = func(s *served, l load) []string { return onProcessor("1", u.command(s, l)) }
	var rates, tails [2][]float64 // kernel, stack
	var ratios, tailRatios []float64
	for range *figureRounds {
		var rate, tail [2]float64
		for i, s := range []*served{kernel, stack} {
			r := s.use(t, pinnedUse, load{users: users, time: measured})
			if t.Failed() || r.Seconds == 0 { // a client that does not measure
				return
			}
			rate[i], tail[i] = float64(r.Requests)/r.Seconds, float64(r.P99)
			rates[i], tails[i] = append(rates[i], rate[i]), append(tails[i], tail[i])
		}
		ratios, tailRatios = append(ratios, rate[1]/rate[0]), append(tailRatios, tail[1]/tail[0])
	}
	fmt.Fprintf(w, "%s\t%d\t%.0f\t%.0f\t%s\t%.0f\t%.0f\t%s\n", u.name, users,
		median(rates[0]), median(rates[1]), spread(ratios), median(tails[0]), median(tails[1]), spread(tailRatios))
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

func spread(v []float64) string {
	return fmt.Sprintf("%.2f (%.2f-%.2f)", median(v), slices.Min(v), slices.Max(v))
}
