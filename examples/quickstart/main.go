// Command quickstart shows in a few seconds what onload does, and changes
// nothing on the machine:
//
//	go run ./examples/quickstart
//
// As root it makes two network namespaces joined by a veth pair, serves HTTP
// and TCP in one and calls from the other, by the kernel and by onload, each
// end in a process of its own. The first lines of onload's are with the default
// settings, those of the profile balanced; then come those of latency. Without
// privileges it does the same within one process: the kernel by loopback,
// onload over a link in memory.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

func main() {
	// The two ends are this program again: see child.go.
	if len(os.Args) > 1 && os.Args[1] == childCommand {
		if err := child(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "quickstart:", err)
			os.Exit(1)
		}
		return
	}
	each := flag.Duration("time", 300*time.Millisecond, "how long to measure each line")
	profile := flag.String("profile", "", "measure only this profile of onload's: balanced (the default one), latency, throughput")
	flag.Parse()
	if l := load(); l > float64(len(processors())) {
		fmt.Printf("This machine is busy (load %.1f): the figures below mean little.\n\n", l)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *each, profiles(*profile)); err != nil {
		if ctx.Err() != nil {
			err = errors.New("interrupted")
		}
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

// profiles are those to measure, the default one first.
func profiles(only string) []string {
	if only != "" {
		return []string{only}
	}
	return []string{onload.Balanced.String(), onload.Latency.String()}
}

func run(ctx context.Context, each time.Duration, profiles []string) error {
	pair, err := lab.MakePair(lab.Options{})
	if err != nil {
		fmt.Printf("No network namespaces (%v): everything runs in this process.\n", err)
		fmt.Printf("The kernel's lines are loopback, onload's a link in memory. Run as root for the real thing.\n\n")
		// Two ends that spin long would fight for processors, so there is one
		// profile only.
		lines, err := inProcess(ctx, each, profiles[0])
		if err != nil {
			return err
		}
		report(lines)
		return nil
	}
	defer pair.Close()
	where := "in a process and on a processor of its own"
	if len(processors()) < 2 {
		where = "in a process of its own, on one processor for both"
	}
	fmt.Printf("Two network namespaces joined by a veth pair, each end %s.\n\n", where)
	want := []line{{Client: byKernel, Server: byKernel}}
	for _, p := range profiles {
		want = append(want, line{Client: byKernel, Server: byOnload, Profile: p},
			line{Client: byOnload, Server: byKernel, Profile: p}, line{Client: byOnload, Server: byOnload, Profile: p})
	}
	for i := range want {
		if err := between(ctx, pair, &want[i], each); err != nil {
			return fmt.Errorf("%s: %w", want[i].name(), err)
		}
	}
	report(want)
	return nil
}

// load is how many threads wanted a processor in the last minute.
func load() (l float64) {
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		_, _ = fmt.Sscan(string(b), &l)
	}
	return l
}

// The ways that an end can take.
const (
	byKernel = "kernel"
	byOnload = "onload"
)

// line has the figures of one pair of ends.
type line struct {
	Client, Server         string // way
	Profile                string // of the ends that are onload's
	ClientPath, ServerPath onload.Path
	HTTP, TCP              quantiles
}

func (l line) name() string {
	n := l.Client + " to " + l.Server
	if l.Profile != "" {
		n += ", " + l.Profile
	}
	if l.Profile == (onload.Config{}).Profile.String() {
		n += " (default)"
	}
	return n
}

func report(lines []line) {
	w := tabwriter.NewWriter(os.Stdout, 0, 8, 3, ' ', tabwriter.AlignRight)
	table := func(title string, of func(line) quantiles) {
		fmt.Fprintf(w, "%s\tp50\tp90\tp99\tround trips\tp50 against the kernel\t\n", title)
		base := of(lines[0])
		for _, l := range lines {
			q := of(l)
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%.1fx\t\n", l.name(), micros(q.P50), micros(q.P90), micros(q.P99), q.N,
				float64(base.P50)/float64(q.P50))
		}
		fmt.Fprintln(w, "\t\t\t\t\t\t")
	}
	table("HTTP GET", func(l line) quantiles { return l.HTTP })
	table("TCP, 1 byte", func(l line) quantiles { return l.TCP })
	w.Flush()
	fmt.Println("How the packets travelled:")
	told := map[string]bool{} // with each profile alike
	for _, l := range lines {
		way := fmt.Sprintf("  %s to %s: client by %s, server by %s\n", l.Client, l.Server, path(l.ClientPath), path(l.ServerPath))
		if !told[way] {
			fmt.Print(way)
		}
		told[way] = true
	}
}

func path(p onload.Path) string {
	switch {
	case !p.Accelerated:
		return "the kernel"
	case p.Mode == "sim":
		return "a link in memory"
	}
	return "AF_XDP on " + p.String()
}

func micros(d time.Duration) string {
	return fmt.Sprintf("%.1f us", float64(d)/float64(time.Microsecond))
}
