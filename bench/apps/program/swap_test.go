package program

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The import of net is swapped, whichever way it is written, and nothing else.
func TestCopySwapped(t *testing.T) {
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "to")
	for name, text := range map[string]string{
		"go.mod":         "module m\n",
		"alone.go":       "package m\n\nimport \"net\"\n",
		"sub/grouped.go": "package sub\n\nimport (\n\t\"fmt\"\n\t\"net\"\n\t\"net/http\"\n)\n",
		"x_test.go":      "package m\n",
	} {
		p := filepath.Join(from, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := copySwapped(from, to); err != nil {
		t.Fatal(err)
	}
	const swapped = `net "github.com/onload-go/onload/net"`
	for name, want := range map[string]string{
		"go.mod":         "module m\n",
		"alone.go":       "package m\n\nimport " + swapped + "\n",
		"sub/grouped.go": "package sub\n\nimport (\n\t\"fmt\"\n\t" + swapped + "\n\t\"net/http\"\n)\n",
	} {
		if b, err := os.ReadFile(filepath.Join(to, name)); err != nil || string(b) != want {
			t.Errorf("%s: %v\n%s", name, err, b)
		}
	}
	if _, err := os.Stat(filepath.Join(to, "x_test.go")); !os.IsNotExist(err) {
		t.Errorf("a test was copied: %v", err)
	}
	if err := copySwapped(filepath.Join(from, "go.mod"), filepath.Join(t.TempDir(), "x")); err == nil || !strings.Contains(err.Error(), "no file") {
		t.Errorf("a module without net: %v", err)
	}
}
