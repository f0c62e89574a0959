package routediff

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/testlong"
)

var (
	firstSeed = flag.Uint64("seed", 1, "the first seed of the random tests")
	seedCount = flag.Int("seeds", 0, "how many seeds to try; 0: few, and 2,000 with -long")
)

// TestRandomRoutes: on random hosts the kernel's sockets and ours send the same
// packets, or fail with the same error.
func TestRandomRoutes(t *testing.T) {
	for name, v6 := range map[string]bool{"v4": false, "v6": true} {
		t.Run(name, func(t *testing.T) { randomRoutes(t, v6) })
	}
}

func randomRoutes(t *testing.T, v6 bool) {
	lab.NeedRoot(t)
	n := *seedCount
	if n == 0 {
		n = testlong.Pick(4, 2000)
	}
	accelerated := 0
	for i := range n {
		seed := *firstSeed + uint64(i)
		lines := generate(seed, v6)
		r, err := confirmed(lines)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if r.accelerated {
			accelerated++
		}
		if len(r.differences) > 0 {
			small, d := smallest(lines, r)
			t.Errorf("seed %d: %d of %d tries differ; the smallest host where one does:\n%s\n%v", seed, len(r.differences), r.tries, strings.Join(small, "\n"), d)
		}
	}
	if accelerated < n*9/10 {
		t.Errorf("%d of %d hosts had an accelerated link", accelerated, n)
	}
}

// smallest is the part of a scenario that shows the first of its differences, as it
// is then.
func smallest(lines []string, r report) ([]string, difference) {
	last := r.differences[0]
	gateways := func(lines []string) (n int) { // without them default routes take turns
		for _, l := range lines {
			if strings.HasPrefix(l, "ip neigh ") {
				n++
			}
		}
		return n
	}
	all := gateways(lines)
	lines = shrink(only(lines, r.differences[:1]), func(lines []string) bool {
		if gateways(lines) < all {
			return false
		}
		r, err := run(lines, 300*time.Millisecond)
		if err != nil || len(r.differences) == 0 {
			return false
		}
		last = r.differences[0]
		return true
	})
	return lines, last
}

// TestFoundRoutes: what was found once stays right. Each file is a scenario that
// differed.
func TestFoundRoutes(t *testing.T) {
	lab.NeedRoot(t)
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			r, err := confirmed(strings.Split(string(b), "\n"))
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range r.differences {
				t.Error(d)
			}
			if r.tries == 0 {
				t.Error("nothing is tried")
			}
		})
	}
}
