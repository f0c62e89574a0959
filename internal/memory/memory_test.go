package memory

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const (
	mib     = 1 << 20
	mountV1 = "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
	mountV2 = "35 32 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"
	// The value of version 1 where there is no limit.
	none     = "9223372036854771712\n"
	meminfo  = "MemTotal:       4194304 kB\nMemFree:         100000 kB\nMemAvailable:   1048576 kB\nHugePages_Total:      64\nHugePages_Free:       32\nHugepagesize:       2048 kB\n"
	machines = "the machine has 1024 MiB left"
)

// One row is one layout of cgroups, as a process finds it.
func TestRead(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  int64
		of    string
	}{
		{"no /proc", nil, math.MaxInt64, ""},
		{"no cgroup", map[string]string{"proc/meminfo": meminfo}, 1024 * mib, machines},
		{"v1, no limit", map[string]string{
			"proc/meminfo": meminfo, "proc/self/mountinfo": mountV1, "proc/self/cgroup": "4:memory:/a\n0::/\n",
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": none,
		}, 1024 * mib, machines},
		{"v1, the parent's limit", map[string]string{
			"proc/meminfo": meminfo, "proc/self/mountinfo": mountV1 + mountV2, "proc/self/cgroup": "4:memory:/a/b\n0::/\n",
			"sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": fmt.Sprint(512*mib, "\n"),
			"sys/fs/cgroup/memory/a/b/memory.usage_in_bytes": fmt.Sprint(mib, "\n"),
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes":   fmt.Sprint(256*mib, "\n"),
			"sys/fs/cgroup/memory/a/memory.usage_in_bytes":   fmt.Sprint(200*mib, "\n"),
			"sys/fs/cgroup/memory/a/memory.stat":             fmt.Sprint("inactive_file 1\ntotal_inactive_file ", 100*mib, "\n"),
			"sys/fs/cgroup/memory/memory.limit_in_bytes":     none,
			"sys/fs/cgroup/memory.max":                       "1\n", // of version 2, which has not the controller
		}, 156 * mib, "cgroup /sys/fs/cgroup/memory/a has a limit of 256 MiB, of which 156 are left"},
		{"v2, its own limit", map[string]string{
			"proc/meminfo": meminfo, "proc/self/mountinfo": mountV2, "proc/self/cgroup": "0::/a/b\n",
			"sys/fs/cgroup/a/b/memory.max":     fmt.Sprint(128*mib, "\n"),
			"sys/fs/cgroup/a/b/memory.high":    "max\n",
			"sys/fs/cgroup/a/b/memory.current": fmt.Sprint(64*mib, "\n"),
			"sys/fs/cgroup/a/b/memory.stat":    fmt.Sprint("anon 5\ninactive_file ", 32*mib, "\n"),
			"sys/fs/cgroup/a/memory.max":       "max\n",
		}, 96 * mib, "cgroup /sys/fs/cgroup/a/b has a limit of 128 MiB, of which 96 are left"},
		{"v2, high below max, more used than may be", map[string]string{
			"proc/meminfo": meminfo, "proc/self/mountinfo": mountV2, "proc/self/cgroup": "0::/a\n",
			"sys/fs/cgroup/a/memory.max":     fmt.Sprint(128*mib, "\n"),
			"sys/fs/cgroup/a/memory.high":    fmt.Sprint(100*mib, "\n"),
			"sys/fs/cgroup/a/memory.current": fmt.Sprint(101*mib, "\n"),
		}, 0, "cgroup /sys/fs/cgroup/a has a limit of 100 MiB, of which 0 are left"},
		{"a limit beyond the machine", map[string]string{
			"proc/meminfo": meminfo, "proc/self/mountinfo": mountV2, "proc/self/cgroup": "0::/a\n",
			"sys/fs/cgroup/a/memory.max": fmt.Sprint(8192*mib, "\n"),
		}, 1024 * mib, machines},
	} {
		root := t.TempDir()
		for name, text := range tt.files {
			put(t, root, name, text)
		}
		got := read(root)
		if got.Bytes != tt.want || got.Of != tt.of {
			t.Errorf("%s: %d (%s), want %d (%s)", tt.name, got.Bytes, got.Of, tt.want, tt.of)
		}
		if want := int64(64 * mib); strings.Contains(tt.files["proc/meminfo"], "Huge") != (got.Huge == want) {
			t.Errorf("%s: %d in huge pages", tt.name, got.Huge)
		}
	}
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

// Whatever the files hold, nothing is negative.
func FuzzFiles(f *testing.F) {
	f.Add(meminfo, "max\n", "1\n", "inactive_file 3\n")
	f.Add("MemAvailable: -1\nHugePages_Free: 9223372036854775807\nHugepagesize: 2048", "9223372036854775807", "-1", "inactive_file 9223372036854775807")
	f.Fuzz(func(t *testing.T, meminfo, limit, current, stat string) {
		root := t.TempDir()
		put(t, root, "proc/meminfo", meminfo)
		put(t, root, "proc/self/mountinfo", mountV2)
		put(t, root, "proc/self/cgroup", "0::/\n")
		put(t, root, "sys/fs/cgroup/memory.max", limit)
		put(t, root, "sys/fs/cgroup/memory.current", current)
		put(t, root, "sys/fs/cgroup/memory.stat", stat)
		if got := read(root); got.Bytes < 0 || got.Huge < 0 {
			t.Errorf("%+v", got)
		}
	})
}
