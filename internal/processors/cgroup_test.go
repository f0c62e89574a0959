package processors

import (
	"errors"
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/cgroup"
	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/need"
)

// hierarchy is the one with the cpu controller.
type hierarchy struct {
	point string
	v2    bool
}

// needCgroups skips the test where no cgroup with a quota can be made. With
// CI=true it fails instead.
func needCgroups(t *testing.T) hierarchy {
	t.Helper()
	h, err := findHierarchy()
	if err != nil {
		need.Missing(t, "root and a cgroup hierarchy with the cpu controller: %v", err)
	}
	return h
}

func findHierarchy() (hierarchy, error) {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return hierarchy{}, err
	}
	for _, m := range cgroup.ParseMounts(text) {
		h := hierarchy{m.Point, m.V2}
		if !m.Has("cpu") {
			// The controller is for children where subtree_control names it.
			on, err := os.ReadFile(m.Point + "/cgroup.subtree_control")
			if err != nil || !strings.Contains(" "+strings.TrimSpace(string(on))+" ", " cpu ") {
				continue
			}
		}
		return h, unix.Access(m.Point, unix.W_OK)
	}
	return hierarchy{}, errors.New("none is mounted")
}

// cgroup makes one below parent with a quota in processors, 0 for none.
func (h hierarchy) cgroup(t *testing.T, parent, name string, quota float64, period time.Duration) string {
	t.Helper()
	dir := parent + "/" + name
	if h.v2 && parent != h.point {
		write(t, parent+"/cgroup.subtree_control", "+cpu")
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.RemoveCgroup(dir); err != nil {
			t.Error(err)
		}
	})
	h.limit(t, dir, quota, period)
	return dir
}

func (h hierarchy) limit(t *testing.T, dir string, quota float64, period time.Duration) {
	t.Helper()
	us := strconv.Itoa(int(quota * float64(period.Microseconds())))
	switch {
	case h.v2 && quota == 0:
		us = "max"
	case quota == 0:
		us = "-1"
	}
	if h.v2 {
		write(t, dir+"/cpu.max", fmt.Sprint(us, " ", period.Microseconds()))
		return
	}
	write(t, dir+"/cpu.cfs_period_us", fmt.Sprint(period.Microseconds()))
	write(t, dir+"/cpu.cfs_quota_us", us)
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0); err != nil {
		t.Fatal(err)
	}
}

func name(what string) string { return fmt.Sprintf("onload-%d-%s", os.Getpid(), what) }

func (c *child) expect(command string, quota float64, period time.Duration) {
	c.t.Helper()
	if v := c.ask(command); math.Abs(v.Quota-quota) > 1e-9 || v.Period != period {
		c.t.Errorf("%s: %+v; want a quota of %v in %v", command, v, quota, period)
	}
}

// A child goes from cgroup to cgroup, and sees the limit of each. (Quotas are
// below any that a test runner may have itself.)
func TestQuota(t *testing.T) {
	h := needCgroups(t)
	const ms = time.Millisecond
	outer := h.cgroup(t, h.point, name("outer"), 0.2, 100*ms)
	inner := h.cgroup(t, outer, "inner", 0.1, 50*ms)
	other := h.cgroup(t, h.point, name("other"), 0.15, 20*ms)
	c := start(t, nil)
	home := c.ask("view")
	if home.Quota != 0 && home.Quota <= 0.2 {
		t.Fatalf("%+v: this test needs a larger quota", home)
	}
	move := func(dir string) {
		t.Helper()
		write(t, dir+"/cgroup.procs", strconv.Itoa(c.cmd.Process.Pid))
	}
	move(inner)
	t.Cleanup(func() { c.cmd.Process.Kill(); c.cmd.Wait() }) // before the cgroups go
	c.expect("view", 0.1, 50*ms)
	c.expect("read", 0.1, 50*ms)
	if v := c.ask("throttled"); v.Throttled.Periods < v.Throttled.Throttled {
		t.Errorf("%+v: throttled in more periods than there were", v)
	}
	h.limit(t, inner, 0, 100*ms)
	c.expect("view", 0.2, 100*ms) // the parent's
	move(other)
	c.expect("view", 0.15, 20*ms)
	c.expect("read", 0.15, 20*ms)
}

// In a cgroup namespace the child's cgroup is the root.
func TestCgroupNamespace(t *testing.T) {
	h := needCgroups(t)
	outer := h.cgroup(t, h.point, name("ns-outer"), 0.1, 100*time.Millisecond)
	inner := h.cgroup(t, outer, "inner", 0, 100*time.Millisecond)
	inside := h.cgroup(t, outer, "inside", 0.05, 100*time.Millisecond)
	attr := &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWCGROUP | unix.CLONE_NEWNS}
	c := h.startIn(t, inner, attr)
	t.Cleanup(func() { c.cmd.Process.Kill(); c.cmd.Wait() })

	kind := "cgroup"
	if h.v2 {
		kind = "cgroup2"
	}
	c.ask("mount " + kind + " " + t.TempDir())
	// Of the limits of inner and outer only inner's can be seen: none.
	c.expect("read", 0, 0)
	h.limit(t, inner, 0.05, 100*time.Millisecond)
	c.expect("read", 0.05, 100*time.Millisecond)
	// Out of the namespace, where nothing can be seen.
	write(t, inside+"/cgroup.procs", strconv.Itoa(c.cmd.Process.Pid))
	c.expect("read", 0, 0)
}

// startIn starts a child in a cgroup, before it makes its namespaces.
func (h hierarchy) startIn(t *testing.T, dir string, attr *syscall.SysProcAttr) *child {
	t.Helper()
	if h.v2 {
		f, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		attr.UseCgroupFD, attr.CgroupFD = true, int(f.Fd())
		return start(t, attr)
	}
	// cgroup v1 moves single threads, and their children start there.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	own, err := os.ReadFile("/proc/thread-self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	id := strconv.Itoa(unix.Gettid())
	write(t, dir+"/tasks", id)
	defer write(t, h.point+cgroup.ParseMembership(own).V1["cpu"]+"/tasks", id)
	return start(t, attr)
}
