package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// BenchmarkConnection: what connections cost in a program of onload build. Carried by
// the kernel it is compared with the program of go build, over a stack with one that
// uses this module's package. The programs run in turn; each metric is a ratio of the
// least of the runs' times, or of allocations.
//
//	go test ./cmd/onload -run - -bench Connection -benchtime 1x
func BenchmarkConnection(b *testing.B) {
	root, err := filepath.Abs("../..")
	if err != nil {
		b.Fatal(err)
	}
	const source = "./cmd/onload/testdata/cost"
	plain, glued, loop, library := filepath.Join(b.TempDir(), "plain"), filepath.Join(b.TempDir(), "glued"), filepath.Join(b.TempDir(), "loop"), filepath.Join(b.TempDir(), "library")
	goTool(b, root, "build", "-o", glued, source)
	goTool(b, root, "build", "-tags", "onload_loop", "-o", loop, source)
	for program, tag := range map[string]string{plain: "", library: "library,onload_loop"} {
		c := exec.Command("go", "build", "-tags", tag, "-o", program, source)
		c.Dir = root
		if out, err := c.CombinedOutput(); err != nil {
			b.Fatalf("%v\n%s", err, out)
		}
	}
	for _, pair := range []struct{ name, one, other string }{
		{"kernel", plain, glued},
		{"stack", library, loop},
	} {
		b.Run(pair.name, func(b *testing.B) {
			for b.Loop() {
				least := [2]map[string]cost{{}, {}}
				for range 5 {
					for i, program := range []string{pair.one, pair.other} {
						measure(b, program, least[i])
					}
				}
				for op, was := range least[0] {
					now := least[1][op]
					b.Logf("%s: %v, by onload build %v", op, was, now)
					b.ReportMetric(float64(now.ns)/float64(was.ns), op+"-ratio")
					b.ReportMetric(float64(now.allocs-was.allocs), op+"-more-allocs")
				}
			}
		})
	}
}

type cost struct{ ns, allocs int64 }

func (c cost) String() string { return fmt.Sprintf("%d ns, %d allocations", c.ns, c.allocs) }

// measure runs the program, and keeps the least cost of each operation.
func measure(b *testing.B, program string, least map[string]cost) {
	b.Helper()
	c := exec.Command(program, "-test.benchtime=200ms")
	c.Env = append(os.Environ(), "ONLOAD_INTERFACES=none", "ONLOAD_LOG=error")
	out, err := c.CombinedOutput()
	if err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		var op string
		var now cost
		if _, err := fmt.Sscan(line, &op, &now.ns, &now.allocs); err != nil {
			b.Fatalf("%q: %v", line, err)
		}
		if was, ok := least[op]; !ok || now.ns < was.ns {
			least[op] = now
		}
	}
}
