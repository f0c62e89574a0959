package engine_test

import (
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/engine"
	asking "github.com/onload-go/onload/internal/inspect/ask"
	"github.com/onload-go/onload/internal/inspect/report"
)

// mappings counts the memories of captures in this process.
func mappings(t *testing.T) (n int) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(b), "memfd:onload capture")
}

// TestRecordReaderDies: the memory of a reader that is gone is given back, of several
// readers each its own.
func TestRecordReaderDies(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	memoryPair(t, engine.Config{})
	p, err := asking.Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	var readers []*asking.Asking
	for range 3 {
		a, err := p.Ask(report.KindCapture, report.Capture{Buffer: 1 << 16})
		if err != nil {
			t.Fatal(err)
		}
		_, files, err := a.Next()
		if err != nil || len(files) != 1 {
			t.Fatalf("%d descriptors, %v", len(files), err)
		}
		if err := files[0].Truncate(0); err == nil {
			t.Error("a reader can take the memory away")
		}
		_ = files[0].Close()
		readers = append(readers, a)
	}
	for i, a := range readers {
		if n := mappings(t); n != len(readers)-i {
			t.Fatalf("%d memories for %d readers", n, len(readers)-i)
		}
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(time.Minute); mappings(t) > len(readers)-i-1 && time.Now().Before(end); {
			runtime.Gosched()
		}
	}
	if n := mappings(t); n != 0 {
		t.Errorf("%d memories are left", n)
	}
	for _, wrong := range []report.Capture{{SnapLen: -1}, {Buffer: 1 << 40}, {Direction: "up"}, {Filter: [][4]uint32{{1 << 20}}}, {Filter: [][4]uint32{{6, 0, 0, 0}, {0xffff}}}} {
		a, err := p.Ask(report.KindCapture, wrong)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := a.Next(); err == nil {
			t.Errorf("%+v is taken", wrong)
		}
		_ = a.Close()
	}
}
