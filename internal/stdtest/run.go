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
}

// row is a package's line of the table: how many tests have each pair of verdicts.
type row struct {
	pkg    string
	kernel map[string]int
	ours   map[string]int
	both   int      // that pass on the kernel and here
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
				results[i] = pair{s.one(names[i], "ONLOAD=off"), s.one(names[i])}
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
	r := result{fail, string(out)}
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

// print prints the table, and what passes on the kernel only.
func print(table []row) {
	fmt.Println("| package | kernel: pass, skip, fail | over a stack | of those that pass on the kernel |\n|---|---|---|---|")
	for _, r := range table {
		share := 100.0
		if n := r.kernel[pass]; n > 0 {
			share = 100 * float64(r.both) / float64(n)
		}
		fmt.Printf("| %s | %d, %d, %d | %d, %d, %d | %.1f %% |\n", r.pkg,
			r.kernel[pass], r.kernel[skip], r.kernel[fail], r.ours[pass], r.ours[skip], r.ours[fail], share)
	}
	for _, r := range table {
		for _, d := range r.differ {
			fmt.Printf("%s: %s\n", r.pkg, d)
		}
	}
}
