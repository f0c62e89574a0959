package micro

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onload-go/onload/bench/load"
	onload "github.com/onload-go/onload/net"
)

var update = flag.Bool("update", false, "write testdata/work.json anew")

// work is the cost of an operation in things that can be counted. A slow or
// busy machine changes none of it; a stack that does more for the same does.
type work map[string]float64

// counted are the counters of both ends' stacks that are compared.
var counted = []string{
	"Polls", "TxFull",
	"TCP.InSegs", "TCP.OutSegs", "TCP.RetransSegs", "TCP.DelayedACKs", "TCP.TCPTimeouts",
	"Queues.Kicks", "Queues.TxPackets", "Queues.TxBytes", "Queues.TxRingFull",
}

// count adds up the counters of both ends.
func count(t *testing.T, ns ...load.Network) work {
	t.Helper()
	w := work{}
	for _, n := range ns {
		b, err := json.Marshal(n.Counters())
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := json.Unmarshal(b, &v); err != nil {
			t.Fatal(err)
		}
		flatten(w, nil, v)
	}
	for _, name := range counted {
		if _, ok := w[name]; !ok {
			t.Fatalf("there is no counter %s: mend the list, and testdata/work.json", name)
		}
	}
	maps.DeleteFunc(w, func(k string, _ float64) bool { return !slices.Contains(counted, k) })
	return w
}

// flatten names a counter by its path, without the interface's name and the
// queue's number.
func flatten(w work, path []string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			flatten(w, append(slices.Clone(path), k), e)
		}
	case []any:
		for _, e := range v {
			flatten(w, path, e)
		}
	case float64:
		w[strings.Join(path[1:], ".")] += v
	}
}

// scenario is work that one goroutine does, so that nothing depends on scheduling.
type scenario struct {
	name string
	ops  int
	// start prepares, and returns what does one operation.
	start func(t *testing.T, x, y load.Network) func()
}

var scenarios = []scenario{
	{"tcp round trip of 1 byte", 2000, func(t *testing.T, x, y load.Network) func() {
		c, d := join(t, x, y)
		p := make([]byte, 1)
		return func() { hop(t, c, d, p); hop(t, d, c, p) }
	}},
	{"tcp stream, 16 KiB", 1000, func(t *testing.T, x, y load.Network) func() {
		c, d := join(t, x, y)
		p := make([]byte, 16<<10)
		return func() { hop(t, c, d, p) }
	}},
	{"connection", 500, func(t *testing.T, x, y load.Network) func() {
		l := listen(t, y)
		p := make([]byte, 1)
		return func() {
			c, err := x.Dial("tcp", server)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write(p); err != nil {
				t.Fatal(err)
			}
			d, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := d.Read(p); err != nil {
				t.Fatal(err)
			}
			hop(t, d, c, p)
			c.Close()
			d.Close()
		}
	}},
}

func listen(t testing.TB, y load.Network) net.Listener {
	l, err := y.Listen("tcp", server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// TestWork compares what operations cost at least with the table in testdata. A
// figure may be 5 % and 0.1 above it, allocations not at all. On one processor,
// since else the reactors run beside and take as many turns as they find time
// for. Instructions would be counted too, but virtual
// machines often have no counter of them (perf_event_open: ENOENT).
func TestWork(t *testing.T) {
	const file = "testdata/work.json"
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	want := map[string]work{}
	if !*update {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(b, &want); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]work{}
	for _, sc := range scenarios {
		// The default profile learns when to sleep, and not always the same: here
		// the spin is fixed.
		x, y, err := pairOf(1500, onload.Config{Profile: onload.Balanced, Spin: 100 * time.Microsecond})
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		defer y.Close()
		op := sc.start(t, x, y)
		for range sc.ops / 10 { // windows, pools and caches
			op()
		}
		var w work
		for n := 1; ; n++ {
			w = least(w, measure(t, sc.ops, op, x, y))
			fine := len(regressions(want, map[string]work{sc.name: w})) == 0
			if n >= maxRounds || n >= minRounds && fine {
				break
			}
		}
		got[sc.name] = w
	}
	if *update {
		b, err := json.MarshalIndent(got, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for _, wrong := range regressions(want, got) {
		t.Error(wrong)
	}
}

// minRounds is how often each operation is counted: a timer that is due in one
// round is not in every round. On a starved processor more of them are, so a
// figure that is too high is counted again, maxRounds times in all.
const minRounds, maxRounds = 6, 24

// measure counts what n operations cost, each.
func measure(t *testing.T, n int, op func(), ns ...load.Network) work {
	t.Helper()
	w, before := work{}, count(t, ns...)
	for range n {
		op()
	}
	for k, after := range count(t, ns...) {
		w[k] = (after - before[k]) / float64(n)
	}
	w["allocs"] = testing.AllocsPerRun(n, op)
	return w
}

// least takes the lower of each figure of two costs.
func least(a, b work) work {
	for k, v := range a {
		b[k] = min(v, b[k])
	}
	return b
}

// regressions lists the figures that have grown.
func regressions(want, got map[string]work) (wrong []string) {
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if want[name] == nil {
			wrong = append(wrong, fmt.Sprintf("%s: not in the table; go test -C bench ./micro -run TestWork -update", name))
			continue
		}
		for _, k := range slices.Sorted(maps.Keys(got[name])) {
			most := want[name][k]*1.05 + 0.1
			if k == "allocs" {
				most = want[name][k]
			}
			if g := got[name][k]; g > most {
				wrong = append(wrong, fmt.Sprintf("%s: %s %.3f for each, at most %.3f before", name, k, g, most))
			}
		}
	}
	return wrong
}

// The comparison finds more work, and new figures.
func TestRegressions(t *testing.T) {
	want := map[string]work{"a": {"Kicks": 2, "allocs": 0}}
	for _, c := range []struct {
		got map[string]work
		n   int
	}{
		{map[string]work{"a": {"Kicks": 2.15, "allocs": 0}}, 0},
		{map[string]work{"a": {"Kicks": 1, "allocs": 0}}, 0},
		{map[string]work{"a": {"Kicks": 2.25, "allocs": 0}}, 1},
		{map[string]work{"a": {"Kicks": 3, "allocs": 1}}, 2},
		{map[string]work{"a": {"Kicks": 2, "Polls": 1}}, 1},
		{map[string]work{"b": {}}, 1},
	} {
		if got := regressions(want, c.got); len(got) != c.n {
			t.Errorf("%v: %q", c.got, got)
		}
	}
}
