package harness

import (
	"os"
	"path/filepath"
	"testing"
)

// Leftovers of processes that have ended are removed, all else stays.
func TestSweep(t *testing.T) {
	root := t.TempDir()
	gone, mine := filepath.Join(root, scratchPrefix+"99999999-1"), filepath.Join(root, scratchPrefix+"1-1")
	for _, d := range []string{gone, mine} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	sweep(root, os.RemoveAll)
	if _, err := os.Stat(gone); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", gone, err)
	}
	if _, err := os.Stat(mine); err != nil {
		t.Error(err)
	}
}
