package processors

import (
	"strings"
	"testing"
)

// Whatever /proc and /sys say, levels lie below the mount's point, the own
// one first and each the parent of the one before.
func FuzzCgroup(f *testing.F) {
	f.Add("0::/a/b\n", at(mountV2, "/"))
	f.Add("3:cpu,cpuacct:/docker/0123\n0::/u\n", at(mountV1, "/docker/0123")+mountHybrid)
	f.Add("0::/../other (deleted)\n", at(mountV2, "/.."))
	f.Add("1:cpu:/\n", "33 32 0:30 /\\040\\ /a\\b rw - cgroup c rw,cpu\n")
	f.Fuzz(func(t *testing.T, cgroup, mountinfo string) {
		own := parseMembership([]byte(cgroup))
		for _, m := range parseMounts([]byte(mountinfo)) {
			if m.v2 && m.cpu {
				t.Fatalf("%+v is of both versions", m)
			}
			for _, path := range []string{own.cpu, own.unified} {
				if path != "" && path[0] != '/' {
					t.Fatalf("%q is no path", path)
				}
				dirs := m.path(path)
				for i, dir := range dirs {
					if !strings.HasPrefix(dir, strings.TrimRight(m.point, "/")) {
						t.Fatalf("%q is not below %q", dir, m.point)
					}
					if i > 0 && dirs[i-1][:strings.LastIndexByte(dirs[i-1], '/')] != strings.TrimRight(dir, "/") {
						t.Fatalf("%q is not the parent of %q", dir, dirs[i-1])
					}
				}
			}
		}
	})
}

func FuzzFiles(f *testing.F) {
	f.Add("50000 100000\n")
	f.Add("max 100000\n")
	f.Add("-1\n")
	f.Add("usage_usec 5\nnr_periods 10\nnr_throttled 4\nthrottled_usec 9223372036854775807\n")
	f.Add("nr_periods 10\nnr_throttled 4\nthrottled_time 2500\n")
	f.Add("some avg10=12.34 avg60=0.00 avg300=0.00 total=0\nfull avg10=1e999 avg60=0.00\n")
	f.Add("0.20 0.18 0.12 3/80 11206\n")
	f.Add("0 66198 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		b := []byte(text)
		if quota, period, ok := parseMax(b); ok && (quota <= 0 || period <= 0) {
			t.Errorf("limit %d/%d", quota, period)
		}
		if s := parseStat(b); s.Time < 0 {
			t.Errorf("%+v", s)
		}
		if p, ok := parsePressure(b); ok && !(p >= 0 && p <= 1) {
			t.Errorf("pressure %v", p)
		}
		if n, ok := parseLoad(b); ok && n < 0 {
			t.Errorf("%d runnable", n)
		}
		if d, ok := parseDelay(b); ok && d < 0 {
			t.Errorf("delay %v", d)
		}
	})
}
