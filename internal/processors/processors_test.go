package processors

import (
	"runtime"
	"testing"

	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
)

// The figures of this machine. Every Linux has processors; the rest depends.
func TestRead(t *testing.T) {
	v := Read()
	t.Logf("%+v", v)
	if v.Usable < 1 || v.Usable > runtime.NumCPU() {
		t.Errorf("%d processors usable of %d", v.Usable, runtime.NumCPU())
	}
	if v.Runnable < 1 || v.Preempted < 0 || v.Pressure > 1 || v.Quota < 0 {
		t.Errorf("%+v", v)
	}
}
