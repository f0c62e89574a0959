// Package cgroup finds the directories of the control groups that limit this
// process, in version 1 and 2, also from inside a container.
package cgroup

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Membership is where a process is in the hierarchies. cgroups(7): a path is
// relative to the root of the cgroup namespace, and begins with /.. where it is
// outside.
type Membership struct {
	V1      map[string]string // paths in the hierarchies of version 1, by controller
	Unified string            // path in version 2's
}

// ParseMembership reads /proc/PID/cgroup: lines of ID:CONTROLLERS:PATH.
func ParseMembership(text []byte) Membership {
	m := Membership{V1: map[string]string{}}
	for line := range bytes.Lines(text) {
		id, rest, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(":"))
		controllers, path, ok := bytes.Cut(rest, []byte(":"))
		if !ok || len(path) == 0 || path[0] != '/' {
			continue
		}
		if string(id) == "0" && len(controllers) == 0 {
			m.Unified = string(path)
			continue
		}
		for c := range strings.SplitSeq(string(controllers), ",") {
			if c != "" {
				m.V1[c] = string(path)
			}
		}
	}
	return m
}

// Mount is a cgroup filesystem's.
type Mount struct {
	Root  string // the cgroup that is seen at Point, as Membership's paths
	Point string
	V2    bool
	With  []string // controllers and options, of version 1
}

// Has reports whether it is a hierarchy of version 1 with the controller.
func (m *Mount) Has(controller string) bool { return !m.V2 && slices.Contains(m.With, controller) }

// ParseMounts takes the cgroup filesystems out of /proc/PID/mountinfo.
// proc_pid_mountinfo(5): ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAGS...] -
// TYPE SOURCE SUPEROPTIONS.
func ParseMounts(text []byte) (mounts []Mount) {
	for line := range bytes.Lines(text) {
		before, after, ok := strings.Cut(string(line), " - ")
		fields, fs := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 6 || len(fs) < 3 {
			continue
		}
		m := Mount{Root: unescape(fields[3]), Point: unescape(fields[4])}
		switch fs[0] {
		case "cgroup2":
			m.V2 = true
		case "cgroup":
			m.With = strings.Split(fs[2], ",")
		default:
			continue
		}
		mounts = append(mounts, m)
	}
	return mounts
}

// unescape undoes the octal escapes of mountinfo (\040 is a space).
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+4 <= len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// Dirs lists the directories of the process's cgroup and its ancestors, as far
// as a mount shows them, in the hierarchy that has the controller, which is one
// only. The own one comes first. It is nil where no mount shows it. root is
// empty, or a directory that stands for /.
func Dirs(root string, mounts []Mount, own Membership, controller string) []string {
	if path := own.V1[controller]; path != "" {
		return best(root, mounts, path, func(m *Mount) bool { return m.Has(controller) })
	}
	return Unified(root, mounts, own)
}

// Unified is Dirs of version 2's hierarchy, whatever controllers it has.
func Unified(root string, mounts []Mount, own Membership) []string {
	if own.Unified == "" {
		return nil
	}
	return best(root, mounts, own.Unified, func(m *Mount) bool { return m.V2 })
}

// best chooses, of several mounts, the one that shows most ancestors. Others may
// cover it: the directory is not there then.
func best(root string, mounts []Mount, cgroup string, fits func(*Mount) bool) (best []string) {
	for _, m := range mounts {
		if !fits(&m) {
			continue
		}
		if dirs := m.path(cgroup); len(dirs) > len(best) {
			if _, err := os.Stat(root + dirs[0]); err == nil {
				best = dirs
			}
		}
	}
	for i := range best {
		best[i] = root + best[i]
	}
	return best
}

// path lists the directories from cgroup up to the mount's root.
func (m *Mount) path(cgroup string) (dirs []string) {
	root, names := split(m.Root), split(cgroup)
	if len(root) > len(names) || !slices.Equal(root, names[:len(root)]) {
		return nil
	}
	names = names[len(root):]
	if len(names) > 0 && names[0] == ".." {
		return nil // above what is mounted
	}
	for n := len(names); n >= 0; n-- {
		dirs = append(dirs, strings.TrimRight(m.Point, "/")+strings.Join(append([]string{""}, names[:n]...), "/"))
	}
	return dirs
}

func split(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}
