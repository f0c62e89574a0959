package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
)

// result of one test on one carrier.
type result struct {
	verdict string // pass, skip, FAIL
	output  string
	carried int // connections and datagrams that a stack has carried
}

// row is a package's line of the table: how many tests have each pair of verdicts.
type row struct {
	pkg    string
	kernel map[string]int
	ours   map[string]int
	both   int      // that pass on the kernel and here
	stack  int      // of both, those of which a stack has carried something
	differ []string // that pass on the kernel and not here
}

// run runs all tests, each on both carriers.
func (s *suite) run(match *regexp.Regexp) (row, error) {
	r := row{pkg: s.pkg, kernel: map[string]int{}, ours: map[string]int{}}
	names, err := s.tests(match)
	if err != nil {
		return r, err
	}
	type pair struct{ kernel, ours result }
	results := make([]pair, len(names))
	var group sync.WaitGroup
	next := make(chan int)
	for range *workers {
		group.Go(func() {
			for i := range next {
				stats := s.program + "." + names[i]
				results[i].kernel = s.one(names[i], "ONLOAD=off")
				results[i].ours = s.one(names[i], "STDTEST_STATS="+stats)
				results[i].ours.carried = carried(stats)
			}
		})
	}
	for i := range names {
		next <- i
	}
	close(next)
	group.Wait()
	for i, p := range results {
		r.kernel[p.kernel.verdict]++
		r.ours[p.ours.verdict]++
		switch {
		case p.kernel.verdict != pass:
		case p.ours.verdict == pass:
			r.both++
			if p.ours.carried > 0 {
				r.stack++
			}
		default:
			r.differ = append(r.differ, fmt.Sprintf("%s (%s)", names[i], p.ours.verdict))
			if *verbose {
				fmt.Printf("--- %s %s\n%s\n", s.pkg, names[i], p.ours.output)
			}
		}
	}
	return r, nil
}

const (
	pass = "pass"
	skip = "skip"
	fail = "FAIL"
)

// one runs a test in a process of its own.
func (s *suite) one(name string, env ...string) result {
	ctx, cancel := context.WithTimeout(context.Background(), *patient)
	defer cancel()
	c := exec.CommandContext(ctx, s.program, "-test.v", "-test.short="+strconv.FormatBool(*short), "-test.run=^"+name+"$")
	c.Dir, c.Env = s.dir, append(os.Environ(), env...)
	out, err := c.CombinedOutput()
	r := result{verdict: fail, output: string(out)}
	switch {
	case ctx.Err() != nil:
		r.output += "\nno end"
	case err != nil:
	case strings.Contains(r.output, "\n--- SKIP: "+name+" ") || strings.HasPrefix(r.output, "--- SKIP: "+name+" "):
		r.verdict = skip
	case strings.Contains(r.output, "--- PASS: "+name+" "):
		r.verdict = pass
	}
	return r
}

// carried reads what a process has left of its stack's counters. One that was killed
// has left nothing.
func carried(file string) int {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	var conns, datagrams int
	if _, err := fmt.Sscan(string(text), &conns, &datagrams); err != nil {
		return 0
	}
	return conns + datagrams
}

// print prints the table, and what passes on the kernel only.
func print(table []row) {
	fmt.Println("| package | kernel: pass, skip, fail | over a stack | of those that pass on the kernel | of these accelerated |\n|---|---|---|---|---|")
	for _, r := range table {
		share := 100.0
		if n := r.kernel[pass]; n > 0 {
			share = 100 * float64(r.both) / float64(n)
		}
		fmt.Printf("| %s | %d, %d, %d | %d, %d, %d | %.1f %% | %d |\n", r.pkg,
			r.kernel[pass], r.kernel[skip], r.kernel[fail], r.ours[pass], r.ours[skip], r.ours[fail], share, r.stack)
	}
	for _, r := range table {
		for _, d := range r.differ {
			fmt.Printf("%s: %s\n", r.pkg, d)
		}
	}
}
