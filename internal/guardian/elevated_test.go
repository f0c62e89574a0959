package guardian

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/need"
)

// TestElevated: a program with rights of its file does not look for the guardian in the
// PATH of a user without them, who would get raw sockets.
func TestElevated(t *testing.T) {
	if Elevated() {
		t.Fatal("a test has no rights of its file")
	}
	for want, vector := range map[bool][][2]uintptr{true: {{6, 4096}, {23, 1}}, false: {{23, 0}, {0, 1}}} {
		if got := secure(vector); got != want {
			t.Errorf("%v: %v", vector, got)
		}
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "onload")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	g := new(Guardian)
	if err := g.find(false); err != nil || g.program != path {
		t.Errorf("%q, %v, want %s", g.program, err, path)
	}
	if err := new(Guardian).find(true); err == nil || !strings.Contains(err.Error(), "PATH does not count") {
		t.Errorf("elevated: %v", err)
	}
}

const firstEnv = "ONLOAD_TEST_FIRST"

// TestFirstProcess: the first process of a PID namespace takes all others with it, so it
// is said to have no guardian.
func TestFirstProcess(t *testing.T) {
	if os.Getenv(firstEnv) != "" {
		_, err := Start(Options{Program: Self, In: func(func() error) error { panic("a guardian would start") }})
		fmt.Println("error:", err)
		return
	}
	if os.Geteuid() != 0 {
		need.Missing(t, "root, for a PID namespace")
	}
	c := exec.Command("/proc/self/exe", "-test.run=^TestFirstProcess$")
	c.Env = []string{firstEnv + "=1"}
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}
	if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), "error: this is the first process") {
		t.Errorf("%v: %s", err, out)
	}
}
