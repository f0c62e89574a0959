package engine

import (
	"slices"
	"strings"
	"testing"
)

// Each setting that is a number takes its least and its greatest, and refuses
// what is beyond.
func TestBounds(t *testing.T) {
	for name, tt := range map[string]struct{ valid, invalid []string }{
		"ONLOAD_QUEUES":         {[]string{"0", "4095", "0-63"}, []string{"-1", "4096", "0-64", "0-4096", "0,0", "0-3,2", "1e1", "99999999999999999999"}},
		"ONLOAD_STACKS":         {[]string{"0", "1", "64", "per-core"}, []string{"-1", "65"}},
		"ONLOAD_FRAMES":         {[]string{"0", "16", "16777216"}, []string{"-1", "1", "7", "15", "16777217", "100000000000", "99999999999999999999", "16.0"}},
		"ONLOAD_FRAME_SIZE":     {[]string{"0", "2048", "4096"}, []string{"1", "2047", "8192"}},
		"ONLOAD_RING_SIZE":      {[]string{"0", "64", "65536"}, []string{"16", "32", "65", "131072", "-64"}},
		"ONLOAD_BUSY_POLL":      {[]string{"0", "1", "65535"}, []string{"-1", "65536", "100000000000"}},
		"ONLOAD_RCVBUF":         {[]string{"0", "1", "1024M", "1073741824"}, []string{"-1", "1025M", "1073741825", "9007199254740992K", "M"}},
		"ONLOAD_SNDBUF":         {[]string{"0", "1", "1048576K"}, []string{"-1", "1048577K", "1G"}},
		"ONLOAD_USER_TIMEOUT":   {[]string{"0", "1ms", "596h"}, []string{"-1s", "999us", "597h", "9999999999h"}},
		"ONLOAD_SPIN":           {[]string{"0", "1ns", "2562047h", "off"}, []string{"-1us", "2562048h"}},
		"ONLOAD_MAX_ORPHANS":    {[]string{"0", "1", "2147483647"}, []string{"-1", "2147483648"}},
		"ONLOAD_MAX_TIME_WAITS": {[]string{"0", "1", "2147483647"}, []string{"-1", "2147483648"}},
	} {
		for _, v := range tt.valid {
			if c, err := configFrom([]string{name + "=" + v}); err != nil || c.check() != nil {
				t.Errorf("%s=%s: %v, %v", name, v, err, c.check())
			}
		}
		for _, v := range tt.invalid {
			if _, err := configFrom([]string{name + "=" + v}); err == nil || !strings.Contains(err.Error(), name+"=") {
				t.Errorf("%s=%s: error %v does not name it", name, v, err)
			}
		}
	}
}

// A variable that nobody knows is answered with the one that it resembles, if any.
func TestUnknownVariable(t *testing.T) {
	for name, near := range map[string]string{
		"ONLOAD_STACK": "ONLOAD_STACKS", "ONLOAD_PROFLIE": "ONLOAD_PROFILE", "ONLOAD_RECVBUF": "ONLOAD_RCVBUF", "ONLOAD_NOTHING": "",
	} {
		_, err := configFrom([]string{name + "=2"})
		if err == nil {
			t.Errorf("%s: taken", name)
			continue
		}
		_, hint, asked := strings.Cut(err.Error(), "did you mean ")
		if asked != (near != "") || asked && !strings.HasPrefix(hint, near+"?") {
			t.Errorf("%v; want %q", err, near)
		}
	}
}

// New takes what a variable gives. It names a setting that it refuses.
func FuzzSettings(f *testing.F) {
	for i, k := range knobs {
		f.Add(uint(i), k.Values)
		f.Add(uint(i), "1,2-4")
		f.Add(uint(i), "16M")
		f.Add(uint(i), "on")
	}
	f.Fuzz(func(t *testing.T, which uint, v string) {
		k := knobs[which%uint(len(knobs))]
		c, err := configFrom([]string{k.Env + "=" + v})
		if err == nil {
			err = c.check()
			if err != nil {
				t.Errorf("%s=%q is taken, and then: %v", k.Env, v, err)
			}
			return
		}
		if !strings.Contains(err.Error(), k.Env) {
			t.Errorf("%s=%q: error %v does not name it", k.Env, v, err)
		}
		if slices.Contains(strings.Split(k.Values, ", "), v) && !strings.Contains(v, " ") {
			t.Errorf("%s=%q is listed as valid: %v", k.Env, v, err)
		}
	})
}
