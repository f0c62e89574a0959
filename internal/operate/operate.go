// Package operate has the commands of the program onload that look at running processes:
// ps, ss, stat and their like. Each prints for people or, with --json, as docs/schema has
// it. Names and addresses of other processes are printed without control characters.
package operate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/onload-go/onload/internal/inspect/ask"
)

// Commands are the commands, new ones each time.
func Commands() []*cobra.Command {
	return []*cobra.Command{psCommand(), ssCommand(), statCommand(), queuesCommand(), steerCommand(), routesCommand(), topCommand(), supportCommand()}
}

// common are the flags of most commands.
type common struct {
	pid  int
	all  bool
	json bool
}

func (o *common) flags(c *cobra.Command) {
	c.Flags().IntVarP(&o.pid, "pid", "p", 0, "the process; needed if there are several")
	c.Flags().BoolVarP(&o.all, "all", "a", false, "all processes")
	c.Flags().BoolVar(&o.json, "json", false, "print JSON (docs/schema)")
	c.MarkFlagsMutuallyExclusive("pid", "all")
	complete(c)
}

// complete has shells offer PIDs.
func complete(c *cobra.Command) {
	_ = c.RegisterFlagCompletionFunc("pid", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		all, _ := ask.Find()
		defer closeAll(all)
		var l []string
		for _, p := range all {
			l = append(l, fmt.Sprintf("%d\t%s", p.PID, programOf(p.PID)))
		}
		return l, cobra.ShellCompDirectiveNoFileComp
	})
}

// processes are those that the flags name. The caller closes them.
func (o *common) processes() ([]*ask.Process, error) {
	if o.pid != 0 {
		p, err := ask.Of(o.pid)
		if err != nil {
			return nil, err
		}
		return []*ask.Process{p}, nil
	}
	all, err := ask.Find()
	switch {
	case len(all) == 0:
		return nil, errors.Join(errors.New("no process with an engine that this user may ask"), err)
	case len(all) > 1 && !o.all:
		var names []string
		for _, p := range all {
			names = append(names, fmt.Sprintf("%d (%s)", p.PID, programOf(p.PID)))
		}
		closeAll(all)
		return nil, fmt.Errorf("there are several processes: name one by -p, or all by -a: %s", strings.Join(names, ", "))
	}
	return all, nil
}

func closeAll(ps []*ask.Process) {
	for _, p := range ps {
		_ = p.Close()
	}
}

// printJSON prints v, indented.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// plain is s without what a terminal takes for an order.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '.'
	}, strings.ReplaceAll(s, "\n", "; "))
}

func table(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 1, ' ', 0) }

// row prints cells of a table.
func row(w io.Writer, cells ...any) {
	for i, c := range cells {
		if i > 0 {
			fmt.Fprint(w, "\t")
		}
		fmt.Fprint(w, plain(fmt.Sprint(c)))
	}
	fmt.Fprintln(w)
}

// size is a number of bytes in short.
func size(n int) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1fG", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1fM", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1fK", float64(n)/(1<<10))
	}
	return fmt.Sprint(n)
}
