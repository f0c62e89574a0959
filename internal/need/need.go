// Package need decides what becomes of a test that cannot run.
package need

import (
	"fmt"
	"os"
	"testing"
)

// Missing skips the test, which needs what the text names. With CI=true in the
// environment it fails instead, since nobody would see the skip.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	what := fmt.Sprintf(format, args...)
	if os.Getenv("CI") == "true" {
		t.Fatalf("CI=true, and this test needs %s", what)
	}
	t.Skipf("SKIPPED, needs %s", what)
}
