package cgroup

import (
	"strings"
	"testing"
)

// Whatever /proc says, directories lie below the mount's point, the own one
// first and each the parent of the one before.
func FuzzDirs(f *testing.F) {
	const mount = "35 32 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	f.Add("0::/a/b\n", mount)
	f.Add("3:cpu,cpuacct:/docker/0123\n0::/u\n",
		"33 32 0:30 /docker/0123 /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"+mount)
	f.Add("0::/../other (deleted)\n", strings.Replace(mount, " / ", " /.. ", 1))
	f.Add("1:cpu:/\n", "33 32 0:30 /\\040\\ /a\\b rw - cgroup c rw,cpu\n")
	f.Add("4:memory:/\n", "35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n")
	f.Fuzz(func(t *testing.T, membership, mountinfo string) {
		own := ParseMembership([]byte(membership))
		for _, m := range ParseMounts([]byte(mountinfo)) {
			if m.V2 && (m.Has("cpu") || len(m.With) > 0) {
				t.Fatalf("%+v is of both versions", m)
			}
			for _, path := range []string{own.V1["cpu"], own.V1["memory"], own.Unified} {
				if path != "" && path[0] != '/' {
					t.Fatalf("%q is no path", path)
				}
				dirs := m.path(path)
				for i, dir := range dirs {
					if !strings.HasPrefix(dir, strings.TrimRight(m.Point, "/")) {
						t.Fatalf("%q is not below %q", dir, m.Point)
					}
					if i > 0 && dirs[i-1][:strings.LastIndexByte(dirs[i-1], '/')] != strings.TrimRight(dir, "/") {
						t.Fatalf("%q is not the parent of %q", dir, dirs[i-1])
					}
				}
			}
		}
	})
}
