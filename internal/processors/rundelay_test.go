package processors

import (
	"os"
	"testing"
	"time"
)

// The sum follows threads that come, run, end, and whose identifier is given
// out again.
func TestRunDelayThreads(t *testing.T) {
	const dir = "proc/self/task/"
	root := tree(t, map[string]string{
		dir + "10/schedstat": "1000 500 3\n",
		dir + "11/schedstat": "2000 70 3\n",
	})
	w := watch(root)
	defer w.Close()
	expect := func(want time.Duration) {
		t.Helper()
		if got, ok := w.RunDelay(); !ok || got != want {
			t.Errorf("%d, %v; want %d", got, ok, want)
		}
	}
	end := func(id string) {
		t.Helper()
		// The file of an ended thread reads no more, as in /proc.
		if err := os.Truncate(root+"/"+dir+id+"/schedstat", 0); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(root + "/" + dir + id); err != nil {
			t.Fatal(err)
		}
	}
	expect(570)
	put(t, root, dir+"10/schedstat", "1000 600 4\n")
	expect(670)
	put(t, root, dir+"12/schedstat", "0 5 1\n")
	expect(675)
	end("11")
	expect(675)
	end("10")
	put(t, root, dir+"10/schedstat", "1 1 1\n")
	expect(676)
	put(t, root, dir+"12/schedstat", "9 25 1\n")
	expect(696)
}

func TestRunDelayUnknown(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"no /proc":     nil,
		"no schedstat": {"proc/self/task/10/stat": "10\n"},
		"nonsense":     {"proc/self/task/10/schedstat": "a b c\n"},
	} {
		w := watch(tree(t, files))
		if got, ok := w.RunDelay(); ok {
			t.Errorf("%s: %v", name, got)
		}
		w.Close()
	}
}
