package report

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/google/pprof/profile"

	"github.com/onload-go/onload/bench/load"
)

// Spent divides one end's processor time into classes, by its CPU profiles.
type Spent struct {
	Case, Rung, End string
	Samples         int64
	Seconds         map[string]float64 // by class
	PerOp           float64            // processor time of an operation (a byte of a bulk stream), s; 0: unknown

	cpu float64
	ops int64
}

// Classes of processor time.
const (
	Transmit = "transmit call" // sendto, sendmsg and the like: over veth the peer's half of the kernel runs inside
	Calls    = "other calls"
	Waiting  = "waiting" // polling rings that are empty
	Copying  = "copy, checksum"
	Protocol = "tcp, udp"
	Headers  = "ip"
	Turns    = "stack" // locks, poll turns, demultiplexing, timers
	Rings    = "driver, frames"
	API      = "net" // package onload
	Peer     = "gvisor"
	Workload = "workload" // the benchmark, its clock and histogram
	GoTime   = "go runtime"
)

var classes = []string{Transmit, Calls, Waiting, Copying, Protocol, Headers, Turns, Rings, API, Peer, Workload, GoTime}

const ours = "github.com/onload-go/onload/"

// rooms are the classes of packages, the more exact names first.
var rooms = []struct{ prefix, class string }{
	{ours + "bench/raw.", Workload}, {ours + "bench/", Workload},
	{ours + "tcp.", Protocol}, {ours + "udp.", Protocol}, {ours + "ip.", Headers},
	{ours + "internal/stack.", Turns}, {ours + "ring.", Rings}, {ours + "driver/", Rings}, {ours + "net.", API},
	{"gvisor.dev/", Peer}, {"main.", Workload}, {"net.", API},
}

// waits are functions that wait for packets, and works those that they call
// when one is there.
var (
	waits = []string{"stack.(*Stack).spinFor", "raw.(*end).recvInto"}
	works = []string{"stack.(*Stack).poll", "stack.(*Stack).leave", "afxdp.(*Queue).RxBatch", "afxdp.(*Queue).Refill", "ring.(*Arena).Free", "raw.(*end).give", "raw.(*end).count"}
	sends = []string{"afxdp.sendKick", "afxdp.sendMsg", "syscall.write", "syscall.sendto", "unix.SendmsgN", "rawfile.NonBlockingWrite", "rawfile.NonBlockingSendMMsg"}
	moves = []string{"runtime.memmove", ours + "ip.sum", ours + "ip.copy", ours + "ip.Sum", ours + "ip.Copy"}
)

// classOf classifies a call stack, the innermost function first.
func classOf(stack []string) string {
	has := func(names []string) bool {
		return slices.ContainsFunc(stack, func(f string) bool {
			return slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(f, n) })
		})
	}
	leaf := stack[0]
	switch {
	case strings.Contains(leaf, "syscall"):
		if has(sends) {
			return Transmit
		}
		return Calls
	case slices.ContainsFunc(moves, func(n string) bool { return strings.HasPrefix(leaf, n) }):
		return Copying
	case has(waits) && !has(works):
		return Waiting
	}
	for _, f := range stack {
		for _, r := range rooms {
			if strings.HasPrefix(f, r.prefix) {
				return r.class
			}
		}
	}
	return GoTime
}

// AddProfile takes the CPU profile of one end of a run: cpu are the seconds
// that it used for ops operations.
func (r *Report) AddProfile(c load.Case, rung, end, file string, cpu float64, ops int64) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	p, err := profile.Parse(f)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	i := slices.IndexFunc(r.Spent, func(s *Spent) bool { return s.Case == c.String() && s.Rung == rung && s.End == end })
	if i < 0 {
		i = len(r.Spent)
		r.Spent = append(r.Spent, &Spent{Case: c.String(), Rung: rung, End: end, Seconds: map[string]float64{}})
	}
	s := r.Spent[i]
	s.cpu, s.ops = s.cpu+cpu, s.ops+ops
	if s.ops > 0 {
		s.PerOp = s.cpu / float64(s.ops)
	}
	for _, sample := range p.Sample {
		var stack []string
		for _, l := range sample.Location {
			for _, line := range l.Line { // the innermost of inlined calls first
				stack = append(stack, line.Function.Name)
			}
		}
		if len(stack) == 0 {
			continue
		}
		s.Samples += sample.Value[0]
		s.Seconds[classOf(stack)] += float64(sample.Value[1]) / 1e9
	}
	return nil
}

// spentTable is for the terminal and the page: percent, and time per operation.
func (r *Report) spentTable() *table {
	if len(r.Spent) == 0 {
		return nil
	}
	var cols []string
	for _, c := range classes {
		if slices.ContainsFunc(r.Spent, func(s *Spent) bool { return s.Seconds[c] > 0 }) {
			cols = append(cols, c)
		}
	}
	t := &table{Name: "Where the processor time went, by CPU profile: percent, and microseconds of an operation (of 1,460 bytes of a bulk stream)", Columns: cols}
	for _, s := range r.sortedSpent() {
		total := 0.0
		for _, v := range s.Seconds {
			total += v
		}
		per := s.PerOp * 1e6
		if strings.HasPrefix(s.Case, load.Bulk) {
			per *= 1460
		}
		row := tableRow{Rung: s.Case + " " + s.Rung + " " + s.End}
		for _, c := range cols {
			share := 0.0
			if total > 0 {
				share = s.Seconds[c] / total
			}
			cell := "-"
			if share > 0 {
				cell = fmt.Sprintf("%.1f %%, %.2f", 100*share, share*per)
			}
			row.Cells = append(row.Cells, cell)
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// sortedSpent has the cases and rungs in the report's order.
func (r *Report) sortedSpent() []*Spent {
	at := map[string]int{}
	for i, c := range r.Cases {
		at[c.String()] = i
	}
	rung := map[string]int{}
	for i, d := range r.RungDocs {
		rung[d[0]] = i
	}
	return slices.SortedStableFunc(slices.Values(r.Spent), func(a, b *Spent) int {
		return cmp.Or(cmp.Compare(at[a.Case], at[b.Case]), cmp.Compare(rung[a.Rung], rung[b.Rung]), strings.Compare(a.End, b.End))
	})
}
