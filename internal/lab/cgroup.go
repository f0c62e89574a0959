package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/cgroup"
	"github.com/onload-go/onload/internal/need"
)

// MemoryCgroup makes a cgroup with a limit on memory, in bytes, which lasts as
// long as the test, and returns its file cgroup.procs: a process that writes
// "0" to it is in. Without such cgroups it skips the test like NeedRoot.
func MemoryCgroup(t testing.TB, limit int64) (procs string) {
	t.Helper()
	parent, name, err := memoryHierarchy()
	dir := filepath.Join(parent, fmt.Sprintf("onload-%d-memory", os.Getpid()))
	if err == nil {
		err = os.Mkdir(dir, 0o755)
	}
	if err == nil {
		t.Cleanup(func() {
			if err := RemoveCgroup(dir); err != nil {
				t.Error(err)
			}
		})
		err = os.WriteFile(filepath.Join(dir, name), fmt.Append(nil, limit), 0)
	}
	if err != nil {
		need.Missing(t, "root and a cgroup hierarchy with the memory controller: %v", err)
	}
	return filepath.Join(dir, "cgroup.procs")
}

// RemoveCgroup removes a cgroup whose processes have ended. Their threads may leave
// it a moment after the parent has waited for them.
func RemoveCgroup(dir string) (err error) {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if err = os.Remove(dir); !errors.Is(err, syscall.EBUSY) {
			break
		}
	}
	return err
}

// memoryHierarchy returns the root of the hierarchy with the memory controller,
// and the file of a limit in it.
func memoryHierarchy() (dir, limit string, err error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", "", err
	}
	for _, m := range cgroup.ParseMounts(text) {
		if m.Has("memory") {
			return m.Point, "memory.limit_in_bytes", nil
		}
		// In version 2 a child has the controllers that subtree_control names.
		on, err := os.ReadFile(m.Point + "/cgroup.subtree_control")
		if err == nil && m.V2 && strings.Contains(" "+strings.TrimSpace(string(on))+" ", " memory ") {
			return m.Point, "memory.max", nil
		}
	}
	return "", "", fmt.Errorf("none is mounted: %w", os.ErrNotExist)
}
