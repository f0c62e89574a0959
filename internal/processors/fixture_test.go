package processors

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tree writes files below a directory that stands for /.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		put(t, root, name, text)
	}
	return root
}

func put(t *testing.T, root, name, text string) {
	t.Helper()
	name = filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

const (
	mountV1     = "33 32 0:30 %s /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
	mountMemory = "34 32 0:31 / /sys/fs/cgroup/memory rw shared:10 - cgroup cgroup rw,memory\n"
	mountV2     = "35 32 0:28 %s /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	mountHybrid = "36 32 0:29 / /sys/fs/cgroup/unified rw shared:5 - cgroup2 cgroup2 rw,nsdelegate\n"
	mountRoot   = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n"
)

func at(mount, root string) string { return strings.Replace(mount, "%s", root, 1) }

// One row is one layout of cgroups, as a process finds it.
func TestLayouts(t *testing.T) {
	const ms = time.Millisecond
	none := View{Pressure: -1, Runnable: -1}
	for _, c := range []struct {
		name  string
		files map[string]string
		want  View
	}{
		{"nothing mounted, no /proc", nil, none},
		{"no cgroup mounted", map[string]string{
			"proc/self/cgroup":    "0::/\n",
			"proc/self/mountinfo": mountRoot,
			"proc/loadavg":        "0.20 0.18 0.12 3/80 11206\n",
			"proc/pressure/cpu":   "some avg10=12.50 avg60=1.00 avg300=0.00 total=5\nfull avg10=99.00 avg60=0.00 avg300=0.00 total=0\n",
		}, View{Pressure: 0.125, Runnable: 3}},
		{"v2, no limit", map[string]string{
			"proc/self/cgroup":                      "0::/user.slice\n",
			"proc/self/mountinfo":                   mountRoot + at(mountV2, "/"),
			"sys/fs/cgroup/user.slice/cpu.max":      "max 100000\n",
			"sys/fs/cgroup/user.slice/cpu.stat":     "usage_usec 5\nnr_periods 7\nnr_throttled 3\nthrottled_usec 9\n",
			"sys/fs/cgroup/user.slice/cpu.pressure": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
		}, View{Pressure: 0, Runnable: -1}},
		{"v2, the parent's limit is the tightest, the grandparent has one too", map[string]string{
			"proc/self/cgroup":                 "0::/a/b/c\n",
			"proc/self/mountinfo":              at(mountV2, "/"),
			"proc/pressure/cpu":                "some avg10=80.00 avg60=0.00 avg300=0.00 total=0\n",
			"sys/fs/cgroup/a/cpu.max":          "400000 100000\n",
			"sys/fs/cgroup/a/cpu.stat":         "nr_periods 100\nnr_throttled 1\nthrottled_usec 1000\n",
			"sys/fs/cgroup/a/b/cpu.max":        "25000 50000\n",
			"sys/fs/cgroup/a/b/cpu.stat":       "usage_usec 5\nuser_usec 5\nsystem_usec 0\nnr_periods 10\nnr_throttled 4\nthrottled_usec 2500\nnr_bursts 0\nburst_usec 0\n",
			"sys/fs/cgroup/a/b/c/cpu.max":      "max 100000\n",
			"sys/fs/cgroup/a/b/c/cpu.stat":     "nr_periods 1000\nnr_throttled 1000\nthrottled_usec 1000\n",
			"sys/fs/cgroup/a/b/c/cpu.pressure": "some avg10=40.00 avg60=0.00 avg300=0.00 total=0\n",
			"sys/fs/cgroup/a/b/c/d/cpu.max":    "1000 100000\n",
			"sys/fs/cgroup/a/b/other/cpu.max":  "1000 100000\n",
			"sys/fs/cgroup/other/cpu.max":      "1000 100000\n",
		}, View{
			Quota: 0.5, Period: 50 * ms, Pressure: 0.4, Runnable: -1,
			Throttled: Throttled{110, 5, 3500 * time.Microsecond},
		}},
		{"v2, a container with a cgroup namespace: its own limit is in the root", map[string]string{
			"proc/self/cgroup":           "0::/\n",
			"proc/self/mountinfo":        at(mountV2, "/"),
			"sys/fs/cgroup/cpu.max":      "20000 100000\n",
			"sys/fs/cgroup/cpu.stat":     "nr_periods 2\nnr_throttled 1\nthrottled_usec 1\n",
			"sys/fs/cgroup/cpu.pressure": "some avg10=1.00 avg60=0.00 avg300=0.00 total=0\n",
		}, View{Quota: 0.2, Period: 100 * ms, Pressure: 0.01, Runnable: -1, Throttled: Throttled{2, 1, time.Microsecond}}},
		{"v2, moved out of the namespace's root: not visible", map[string]string{
			"proc/self/cgroup":            "0::/../other\n",
			"proc/self/mountinfo":         at(mountV2, "/"),
			"sys/fs/cgroup/cpu.max":       "20000 100000\n",
			"sys/fs/other/cpu.max":        "10000 100000\n",
			"sys/fs/cgroup/other/cpu.max": "10000 100000\n",
		}, none},
		{"v2, out of the namespace's root, which the host's mount shows", map[string]string{
			"proc/self/cgroup":            "0::/../other\n",
			"proc/self/mountinfo":         at(mountV2, "/.."),
			"sys/fs/cgroup/other/cpu.max": "10000 100000\n",
		}, View{Quota: 0.1, Period: 100 * ms, Pressure: -1, Runnable: -1}},
		{"v1", map[string]string{
			"proc/self/cgroup":                                 "4:memory:/m\n3:cpu,cpuacct:/a/b\n2:cpuset:/cs\n1:name=systemd:/s\n0::/u\n",
			"proc/self/mountinfo":                              at(mountV1, "/") + mountMemory,
			"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us":       "-1\n",
			"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us":      "100000\n",
			"sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us":     "150000\n",
			"sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us":    "100000\n",
			"sys/fs/cgroup/cpu,cpuacct/a/cpu.stat":             "nr_periods 20\nnr_throttled 10\nthrottled_time 1500000\n",
			"sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_quota_us":   "-1\n",
			"sys/fs/cgroup/cpu,cpuacct/a/b/cpu.cfs_period_us":  "100000\n",
			"sys/fs/cgroup/memory/m/cpu.cfs_quota_us":          "5\n",
			"sys/fs/cgroup/cpu,cpuacct/a/b/c/cpu.cfs_quota_us": "5\n",
		}, View{Quota: 1.5, Period: 100 * ms, Pressure: -1, Runnable: -1, Throttled: Throttled{20, 10, 1500 * time.Microsecond}}},
		{"v1, a container without a namespace: the host's path, the container's mount", map[string]string{
			"proc/self/cgroup":                            "3:cpuacct,cpu:/docker/0123\n",
			"proc/self/mountinfo":                         at(mountV1, "/docker/0123"),
			"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us":  "300000\n",
			"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
		}, View{Quota: 3, Period: 100 * ms, Pressure: -1, Runnable: -1}},
		{"v1, another container's mount", map[string]string{
			"proc/self/cgroup":                            "3:cpu,cpuacct:/docker/0123\n",
			"proc/self/mountinfo":                         at(mountV1, "/docker/01"),
			"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us":  "300000\n",
			"sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
		}, none},
		{"hybrid: limits in v1, pressure in v2", map[string]string{
			"proc/self/cgroup":                              "3:cpu,cpuacct:/a\n0::/u\n",
			"proc/self/mountinfo":                           mountHybrid + at(mountV1, "/"),
			"sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_quota_us":  "50000\n",
			"sys/fs/cgroup/cpu,cpuacct/a/cpu.cfs_period_us": "100000\n",
			"sys/fs/cgroup/unified/u/cpu.pressure":          "some avg10=25.00 avg60=0.00 avg300=0.00 total=0\n",
			"sys/fs/cgroup/unified/u/cpu.max":               "1000 100000\n",
			"sys/fs/cgroup/unified/a/cpu.max":               "1000 100000\n",
		}, View{Quota: 0.5, Period: 100 * ms, Pressure: 0.25, Runnable: -1}},
		{"two mounts, one of a part: the whole one counts", map[string]string{
			"proc/self/cgroup":          "0::/a/b\n",
			"proc/self/mountinfo":       "37 32 0:28 /a /part rw - cgroup2 cgroup2 rw\n" + at(mountV2, "/"),
			"sys/fs/cgroup/cpu.max":     "10000 100000\n", // no real root has one
			"sys/fs/cgroup/a/b/cpu.max": "60000 100000\n",
			"part/b/cpu.max":            "50000 100000\n",
		}, View{Quota: 0.1, Period: 100 * ms, Pressure: -1, Runnable: -1}},
		{"a mount that is covered: the next one counts", map[string]string{
			"proc/self/cgroup":    "0::/a/b\n",
			"proc/self/mountinfo": at(mountV2, "/") + "37 32 0:28 /a /a\\040part rw - cgroup2 cgroup2 rw\n",
			"a part/b/cpu.max":    "50000 100000\n",
		}, View{Quota: 0.5, Period: 100 * ms, Pressure: -1, Runnable: -1}},
		{"colons and spaces in a cgroup's name", map[string]string{
			"proc/self/cgroup":            "0::/a:b c\n",
			"proc/self/mountinfo":         at(mountV2, "/"),
			"sys/fs/cgroup/a:b c/cpu.max": "50000 100000\n",
		}, View{Quota: 0.5, Period: 100 * ms, Pressure: -1, Runnable: -1}},
		{"nonsense everywhere", map[string]string{
			"proc/self/cgroup":           "0::/\n",
			"proc/self/mountinfo":        at(mountV2, "/"),
			"proc/loadavg":               "0.20 0.18 0.12 -3/80 11206\n",
			"sys/fs/cgroup/cpu.max":      "0 0\n",
			"sys/fs/cgroup/cpu.stat":     "nr_periods x\n",
			"sys/fs/cgroup/cpu.pressure": "some avg10=NaN avg60=0.00 avg300=0.00 total=0\n",
		}, none},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := watch(tree(t, c.files))
			defer w.Close()
			got := w.View()
			if got.Usable < 1 {
				t.Errorf("no processor is usable: %+v", got)
			}
			got.Usable, got.Preempted = 0, 0 // the machine's, not the tree's
			if got != c.want {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

// The Watcher keeps its files open. It sees new contents, and a move to another
// cgroup.
func TestWatcherFollows(t *testing.T) {
	root := tree(t, map[string]string{
		"proc/self/cgroup":        "0::/a\n",
		"proc/self/mountinfo":     at(mountV2, "/"),
		"proc/loadavg":            "0.20 0.18 0.12 1/80 11206\n",
		"sys/fs/cgroup/a/cpu.max": "50000 100000\n",
		"sys/fs/cgroup/b/cpu.max": "70000 100000\n",
	})
	w := watch(root)
	defer w.Close()
	expect := func(quota float64, runnable int) {
		t.Helper()
		if v := w.View(); v.Quota != quota || v.Runnable != runnable {
			t.Errorf("%+v, want a quota of %v and %d runnable", v, quota, runnable)
		}
	}
	expect(0.5, 1)
	put(t, root, "proc/loadavg", "0.20 0.18 0.12 12/80 11206\n")
	put(t, root, "sys/fs/cgroup/a/cpu.max", "max 100000\n")
	expect(0, 12)
	put(t, root, "proc/self/cgroup", "0::/b\n")
	expect(0.7, 12)
	put(t, root, "proc/self/cgroup", "0::/gone\n")
	expect(0, 12)
	put(t, root, "proc/self/cgroup", "0::/a\n")
	put(t, root, "sys/fs/cgroup/a/cpu.max", "100000 50000\n")
	expect(2, 12)
}

// Membership of more hierarchies than a page names.
func TestLongMembership(t *testing.T) {
	var lines strings.Builder
	for range 200 {
		lines.WriteString("5:name=" + strings.Repeat("x", 40) + ":/\n")
	}
	w := watch(tree(t, map[string]string{
		"proc/self/cgroup":        lines.String() + "0::/a\n",
		"proc/self/mountinfo":     at(mountV2, "/"),
		"sys/fs/cgroup/a/cpu.max": "50000 100000\n",
	}))
	defer w.Close()
	if v := w.View(); v.Quota != 0.5 {
		t.Errorf("%+v, want a quota of 0.5", v)
	}
}

func TestProcessors(t *testing.T) {
	for _, c := range []struct {
		v    View
		want float64
	}{
		{View{Usable: 4}, 4},
		{View{Usable: 4, Quota: 0.5}, 0.5},
		{View{Usable: 4, Quota: 16}, 4},
	} {
		if got := c.v.Processors(); got != c.want {
			t.Errorf("%+v: %v, want %v", c.v, got, c.want)
		}
	}
}
