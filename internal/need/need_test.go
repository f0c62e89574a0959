package need

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// recorder is a test that notes how it was ended.
type recorder struct {
	testing.TB
	end string
}

func (r *recorder) Helper() {}

func (r *recorder) Fatalf(format string, args ...any) {
	r.end = "failed: " + fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Skipf(format string, args ...any) {
	r.end = "skipped: " + fmt.Sprintf(format, args...)
	runtime.Goexit()
}

func TestMissing(t *testing.T) {
	for ci, want := range map[string]string{"": "skipped: SKIPPED, needs a NIC", "true": "failed: CI=true, and this test needs a NIC"} {
		t.Setenv("CI", ci)
		r := &recorder{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			Missing(r, "a %s", "NIC")
		}()
		<-done
		if !strings.HasPrefix(r.end, want) {
			t.Errorf("CI=%q: %q, want %q", ci, r.end, want)
		}
	}
}
