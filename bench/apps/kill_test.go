package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/onload-go/onload/bench/harness"
	"github.com/onload-go/onload/internal/lab"
)

// runEnv has this test's program be the benchmark, with these arguments.
const runEnv = "GO_APPS_TEST_RUN"

// Killing the benchmark kills its ends too, wherever they were placed. An idle
// client would notice nothing else.
func TestEndsDieWithParent(t *testing.T) {
	lab.NeedRoot(t)
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), runEnv+"=-programs net/http -rungs SC -conditions quota -loads idle -time 10m -out "+t.TempDir())
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
	const patience = time.Minute
	var ends []int
	for end := time.Now().Add(patience); len(ends) < 2; ends = placedChildren(t, c.Process.Pid) {
		if time.Now().After(end) {
			t.Fatalf("children: %v", ends)
		}
		time.Sleep(10 * time.Millisecond)
	}
	// By now the client is connected, most likely: before, it would end by itself.
	time.Sleep(500 * time.Millisecond)
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait()
	defer sweep(t)
	for _, pid := range ends {
		for end := time.Now().Add(patience); runs(pid); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				t.Fatalf("process %d outlived its parent", pid)
			}
		}
	}
}

// sweep removes what a killed run leaves to the next one.
func sweep(t *testing.T) {
	dir, err := harness.Scratch()
	if err != nil {
		t.Fatal(err)
	}
	g, err := harness.NewGroup(quotaShare)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Remove(dir), g.Close()); err != nil {
		t.Error(err)
	}
}

// placedChildren are the children that have started anew where they are to run.
func placedChildren(t *testing.T, pid int) (l []int) {
	files, err := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended
		}
		for _, s := range strings.Fields(string(b)) {
			child, err := strconv.Atoi(s)
			if err != nil {
				t.Fatal(err)
			}
			env, err := os.ReadFile("/proc/" + s + "/environ")
			if err == nil && strings.Contains(string(env), "GO_BENCH_PLACED=") {
				l = append(l, child)
			}
		}
	}
	return l
}

// runs reports whether a process is there and no zombie.
func runs(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(rest, "Z")
}
