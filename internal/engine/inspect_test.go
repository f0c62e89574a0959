package engine_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/onload-go/onload/internal/engine"
	asking "github.com/onload-go/onload/internal/inspect/ask"
	"github.com/onload-go/onload/internal/inspect/report"
)

// memoryPair is two engines of this process with a link in memory.
func memoryPair(t *testing.T, c engine.Config) (a, b *engine.Engine) {
	t.Helper()
	a, b, err := engine.NewMemoryPair(
		engine.MemoryConfig{Config: c, Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}},
		engine.MemoryConfig{Config: c, Addrs: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/24")}},
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	return a, b
}

// TestInspectStatus: the process answers from its first engine to the last Close, and not
// where that is turned off.
func TestInspectStatus(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	off, _ := memoryPair(t, engine.Config{Inspect: engine.InspectOff})
	if p, err := asking.Of(os.Getpid()); err == nil {
		t.Fatalf("%s is there though ONLOAD_INSPECT=off", p.Path)
	}
	_ = off
	a, b := memoryPair(t, engine.Config{})
	p, err := asking.Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	s, err := asking.One[report.Status](p, report.KindStatus, nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.PID != os.Getpid() || len(s.Engines) != 2 || len(s.Engines[0].Interfaces) != 1 {
		t.Fatalf("%+v", s)
	}
	e := s.Engines[0]
	if i := e.Interfaces[0]; i.Name != "mem0" || i.Driver != "sim" || i.Error != "" || i.Queues != 1 || i.Path == "" {
		t.Errorf("%+v", i)
	}
	if e.Memory.Bytes == 0 || e.Memory.Bytes != e.Memory.Frames*e.Memory.FrameSize {
		t.Errorf("%+v", e.Memory)
	}
	_, _ = a.Close(), b.Close()
	if _, err := os.Lstat(p.Path); !os.IsNotExist(err) {
		t.Errorf("%s is left in %s: %v", filepath.Base(p.Path), filepath.Dir(p.Path), err)
	}
}
