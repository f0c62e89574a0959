package similar

import (
	"testing"

	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
)

func TestTo(t *testing.T) {
	names := []string{"build", "run", "test", "install"}
	for name, want := range map[string]string{"buidl": "build", "tests": "test", "instal": "install", "run": "run", "deploy": "", "": ""} {
		if got := To(name, names); got != want {
			t.Errorf("%q is like %q, not %q", name, got, want)
		}
	}
}
