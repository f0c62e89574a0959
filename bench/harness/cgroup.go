package harness

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/onload-go/onload/internal/lab"
)

// Group is a cgroup with a quota of processor time.
type Group struct {
	dir string
}

// QuotaPeriod is how often a quota is given out: the kernel's default and that
// of container runtimes.
const QuotaPeriod = 100 * time.Millisecond

// NewGroup makes a cgroup whose processes may use share of one processor,
// under cgroup v1 or v2, whichever has the controller cpu. The caller closes
// it when no process is in it.
func NewGroup(share float64) (*Group, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	root, v2, err := cpuController(string(b), os.ReadFile)
	if err != nil {
		return nil, err
	}
	sweep(root, os.Remove) // there may be a process in one that still ends
	if v2 {
		err := os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+cpu"), 0)
		if err != nil {
			return nil, fmt.Errorf("the controller cpu cannot be delegated: %w", err)
		}
	}
	dir, err := os.MkdirTemp(root, ownPattern())
	if err != nil {
		return nil, err
	}
	g := &Group{dir}
	for name, v := range limits(share, v2) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(v), 0); err != nil {
			return nil, errors.Join(err, g.Close())
		}
	}
	return g, nil
}

// limits are the files of a quota.
func limits(share float64, v2 bool) map[string]string {
	period, us := strconv.Itoa(int(QuotaPeriod.Microseconds())), strconv.Itoa(int(share*float64(QuotaPeriod.Microseconds())))
	if v2 {
		return map[string]string{"cpu.max": us + " " + period}
	}
	return map[string]string{"cpu.cfs_period_us": period, "cpu.cfs_quota_us": us}
}

// cpuController finds where the controller cpu is mounted.
func cpuController(mountinfo string, read func(string) ([]byte, error)) (root string, v2 bool, err error) {
	for line := range strings.Lines(mountinfo) {
		// 36 35 98:0 /root /mount/point options - type source superoptions
		fields, rest, ok := strings.Cut(line, " - ")
		at, fs := strings.Fields(fields), strings.Fields(rest)
		if !ok || len(at) < 5 || len(fs) < 3 {
			continue
		}
		switch fs[0] {
		case "cgroup":
			if slices.Contains(strings.Split(fs[2], ","), "cpu") {
				return at[4], false, nil
			}
		case "cgroup2":
			b, err := read(filepath.Join(at[4], "cgroup.controllers"))
			if err == nil && slices.Contains(strings.Fields(string(b)), "cpu") {
				return at[4], true, nil
			}
		}
	}
	return "", false, errors.New("no cgroup hierarchy with the controller cpu is mounted")
}

// Procs is the file that takes the number of a process that joins; see Place.
func (g *Group) Procs() string { return filepath.Join(g.dir, "cgroup.procs") }

// Close removes the cgroup.
func (g *Group) Close() error { return lab.RemoveCgroup(g.dir) }
