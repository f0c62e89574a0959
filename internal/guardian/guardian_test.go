package guardian

import (
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/flowtable"
	"github.com/onload-go/onload/internal/need"
)

func start(t *testing.T, program string) *Guardian {
	t.Helper()
	if os.Geteuid() != 0 {
		need.Missing(t, "root, for raw sockets")
	}
	tab, err := flowtable.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tab.Close() })
	g, err := Start(Options{Program: program, Table: tab, In: func(f func() error) error { return f() }, Log: zaptest.NewLogger(t)})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func awaitState(t *testing.T, g *Guardian, prefix string) string {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if s := g.String(); strings.HasPrefix(s, prefix) {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("%q, want %q", g, prefix)
		}
	}
}

// A program that is no guardian is said to be none, and Close does not wait for it.
func TestNoGuardian(t *testing.T) {
	for _, program := range []string{"/bin/false", "/bin/true", "/nonexistent/onload"} {
		g := start(t, program)
		if s := awaitState(t, g, "none"); !strings.Contains(s, program) {
			t.Errorf("%s", s)
		}
		g.Close()
	}
}

// A guardian that is killed is followed by another.
func TestGuardianKilled(t *testing.T) {
	g := start(t, Self)
	defer g.Close()
	first := awaitState(t, g, "process")
	g.mu.Lock()
	pid := g.process.Pid
	g.mu.Unlock()
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	awaitState(t, g, "none")
	if s := awaitState(t, g, "process"); s == first {
		t.Errorf("%s again", s)
	}
}

func TestPrograms(t *testing.T) {
	for program, want := range map[string]string{Off: "off", Auto: "ONLOAD_GUARDIAN"} {
		t.Setenv("PATH", t.TempDir())
		if _, err := Start(Options{Program: program}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", program, err)
		}
	}
}
