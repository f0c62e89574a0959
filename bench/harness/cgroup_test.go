package harness

import (
	"errors"
	"maps"
	"strings"
	"testing"
)

// The controller is found in either version, or its lack reported.
func TestCPUController(t *testing.T) {
	const (
		v1 = "31 23 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:14 - cgroup cgroup rw,cpu,cpuacct\n"
		v2 = "24 23 0:21 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
		hy = "24 23 0:21 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n32 23 0:28 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n"
	)
	for name, c := range map[string]struct {
		mounts, controllers, root string
		v2                        bool
	}{
		"v1":      {v1, "", "/sys/fs/cgroup/cpu,cpuacct", false},
		"v2":      {v2, "cpuset cpu io", "/sys/fs/cgroup", true},
		"hybrid":  {hy + v1, "", "/sys/fs/cgroup/cpu,cpuacct", false},
		"without": {hy, "cpuset io", "", false},
	} {
		root, isV2, err := cpuController(c.mounts, func(f string) ([]byte, error) {
			if !strings.HasSuffix(f, "/cgroup.controllers") {
				return nil, errors.ErrUnsupported
			}
			return []byte(c.controllers), nil
		})
		if root != c.root || isV2 != c.v2 || (err == nil) != (c.root != "") {
			t.Errorf("%s: %q, v2 %v, %v", name, root, isV2, err)
		}
	}
}

func TestLimits(t *testing.T) {
	if got, want := limits(0.2, true), (map[string]string{"cpu.max": "20000 100000"}); !maps.Equal(got, want) {
		t.Errorf("v2: %v", got)
	}
	if got, want := limits(0.2, false), (map[string]string{"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "20000"}); !maps.Equal(got, want) {
		t.Errorf("v1: %v", got)
	}
}
