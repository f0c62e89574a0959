package operate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/onload-go/onload/internal/inspect/ask"
	"github.com/onload-go/onload/internal/inspect/report"
	onload "github.com/onload-go/onload/net"
)

// CounterList is what `onload stat --json` prints; with -w one each time.
type CounterList struct {
	Time      time.Time         `json:"time"`
	Processes []ProcessCounters `json:"processes"`
}

// ProcessCounters are the counters of a process.
type ProcessCounters struct {
	PID     int       `json:"pid"`
	Program string    `json:"program"`
	Sets    []Counted `json:"sets"`
}

// Counted is what was counted together: interfaces that share stacks, or a queue.
type Counted struct {
	Interfaces []string  `json:"interfaces"`
	Queue      *int      `json:"queue,omitempty"`
	Counters   []Counter `json:"counters"`
}

// Counter is a number that grows or, if Now is set, says what there is now.
type Counter struct {
	Name  string `json:"name"`
	Help  string `json:"help"`
	Now   bool   `json:"now"`
	Value uint64 `json:"value"`
}

func statCommand() *cobra.Command {
	var o common
	var watch, zero, help bool
	var every time.Duration
	c := &cobra.Command{
		Use:   "stat [NAME...]",
		Short: "print counters, with -w their rates",
		Long: `Print the counters of each process, each with a sentence: those of interfaces that share
stacks together, then those of each queue. Names choose some. Counters that are 0 are left
out. -w goes on and prints what has been added.`,
		RunE: func(c *cobra.Command, names []string) error {
			ps, err := o.processes()
			if err != nil {
				return err
			}
			defer closeAll(ps)
			p := statPrinter{out: c.OutOrStdout(), json: o.json, zero: zero, help: help || !watch, names: names}
			return p.run(c.Context(), ps, watch, every)
		},
	}
	o.flags(c)
	c.Flags().BoolVarP(&watch, "watch", "w", false, "go on, with rates")
	c.Flags().DurationVarP(&every, "interval", "i", time.Second, "how often")
	c.Flags().BoolVarP(&zero, "zeros", "z", false, "counters that are zero too")
	c.Flags().BoolVar(&help, "sentences", false, "with -w too")
	return c
}

type statPrinter struct {
	out        io.Writer
	json       bool
	zero, help bool
	names      []string
	at         time.Time
	was        map[string]uint64 // values of before; nil: there are none
}

func (p *statPrinter) run(ctx context.Context, ps []*ask.Process, watch bool, every time.Duration) error {
	if every < 10*time.Millisecond {
		return errors.New("the interval is too short")
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		l, err := counterList(ps)
		if err != nil {
			return err
		}
		if err := p.print(&l); err != nil || !watch {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// teams are what a process answers: its own structs, whose meanings this program has too.
type teams struct {
	Teams []onload.TeamStats `json:"teams"`
}

func counterList(ps []*ask.Process) (CounterList, error) {
	l := CounterList{Time: time.Now(), Processes: []ProcessCounters{}}
	for _, p := range ps {
		got, err := ask.One[teams](p, report.KindCounters, nil)
		if err != nil {
			return l, err
		}
		l.Processes = append(l.Processes, ProcessCounters{p.PID, programOf(p.PID), countedOf(got.Teams)})
	}
	return l, nil
}

func countedOf(teams []onload.TeamStats) []Counted {
	l := []Counted{}
	for i := range teams {
		t := &teams[i]
		c := Counted{Interfaces: t.Interfaces}
		t.Stats.Each(func(name, help string, now bool, n uint64) {
			c.Counters = append(c.Counters, Counter{name, help, now, n})
		})
		l = append(l, c)
		for i := range t.Queues {
			q := &t.Queues[i]
			c := Counted{Interfaces: []string{q.Interface}, Queue: &q.Queue}
			q.Stats.Each(func(name, help string, n uint64) {
				c.Counters = append(c.Counters, Counter{name, help, false, n})
			})
			l = append(l, c)
		}
	}
	return l
}

// print prints values or, from the second time on, what was added.
func (p *statPrinter) print(l *CounterList) error {
	if p.json {
		return printJSON(p.out, l)
	}
	now := map[string]uint64{}
	seconds := l.Time.Sub(p.at).Seconds()
	p.at = l.Time
	for _, proc := range l.Processes {
		for _, set := range proc.Sets {
			title := fmt.Sprintf("%d %s %s", proc.PID, proc.Program, strings.Join(set.Interfaces, ","))
			if set.Queue != nil {
				title += fmt.Sprintf(" queue %d", *set.Queue)
			}
			w := table(p.out)
			begun := false
			for i := range set.Counters {
				c := &set.Counters[i]
				key := title + " " + c.Name
				now[key] = c.Value
				was, known := p.was[key]
				cells, ok := p.cells(c, was, known, seconds)
				if !ok {
					continue
				}
				if !begun {
					fmt.Fprintln(p.out, plain(title))
					begun = true
				}
				row(w, cells...)
			}
			if err := w.Flush(); err != nil {
				return err
			}
		}
	}
	p.was = now
	return nil
}

// cells are those of a counter's row; false: it is left out.
func (p *statPrinter) cells(c *Counter, was uint64, known bool, seconds float64) (cells []any, ok bool) {
	value := c.Value
	if known && !c.Now {
		value -= was
	}
	named := slices.Contains(p.names, c.Name)
	if len(p.names) > 0 && !named || value == 0 && !p.zero && !named {
		return nil, false
	}
	cells = []any{"  " + c.Name, value}
	if p.was != nil {
		rate := ""
		if known && !c.Now && seconds > 0 {
			rate = trimmed(float64(value)/seconds) + "/s"
		}
		cells = append(cells, rate)
	}
	if p.help {
		cells = append(cells, " "+c.Help)
	}
	return cells, true
}
