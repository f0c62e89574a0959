package processors

import (
	"bytes"
	"os"
	"slices"
	"strconv"
	"strings"
)

// membership is where the process is in the hierarchies that matter.
// cgroups(7): a path is relative to the root of the cgroup namespace, and
// begins with /.. where it is outside.
type membership struct {
	cpu     string // path in the v1 hierarchy that has the cpu controller
	unified string // path in the v2 hierarchy
}

// parseMembership reads /proc/PID/cgroup: lines of ID:CONTROLLERS:PATH.
func parseMembership(text []byte) (m membership) {
	for line := range bytes.Lines(text) {
		id, rest, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(":"))
		controllers, path, ok := bytes.Cut(rest, []byte(":"))
		if !ok || len(path) == 0 || path[0] != '/' {
			continue
		}
		switch {
		case string(id) == "0" && len(controllers) == 0:
			m.unified = string(path)
		case slices.Contains(strings.Split(string(controllers), ","), "cpu"):
			m.cpu = string(path)
		}
	}
	return m
}

// mount is a cgroup filesystem's.
type mount struct {
	root  string // the cgroup that is seen at point, as membership's paths
	point string
	v2    bool
	cpu   bool // v1 with the cpu controller
}

// parseMounts takes the cgroup filesystems out of /proc/PID/mountinfo.
// proc_pid_mountinfo(5): ID PARENT MAJOR:MINOR ROOT POINT OPTIONS [TAGS...] -
// TYPE SOURCE SUPEROPTIONS.
func parseMounts(text []byte) (mounts []mount) {
	for line := range bytes.Lines(text) {
		before, after, ok := strings.Cut(string(line), " - ")
		fields, fs := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 6 || len(fs) < 3 {
			continue
		}
		m := mount{root: unescape(fields[3]), point: unescape(fields[4])}
		switch fs[0] {
		case "cgroup2":
			m.v2 = true
		case "cgroup":
			m.cpu = slices.Contains(strings.Split(fs[2], ","), "cpu")
		}
		if m.v2 || m.cpu {
			mounts = append(mounts, m)
		}
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

// path lists the directories of the process's cgroup and its ancestors, as far
// as a mount shows them, in the hierarchy that limits the processor or, where
// limits is false, in v2's. The own one comes first. It is nil where no mount
// shows it.
func (w *Watcher) path(mounts []mount, own membership, limits bool) []string {
	v1 := limits && own.cpu != "" // the controller is in one hierarchy only
	cgroup := own.unified
	if v1 {
		cgroup = own.cpu
	}
	if cgroup == "" {
		return nil
	}
	// Of several mounts the one that shows most ancestors. Others may cover it:
	// the directory is not there then.
	var best []string
	for _, m := range mounts {
		if m.cpu != v1 || m.v2 == v1 {
			continue
		}
		if dirs := m.path(cgroup); len(dirs) > len(best) {
			if _, err := os.Stat(w.root + dirs[0]); err == nil {
				best = dirs
			}
		}
	}
	for i := range best {
		best[i] = w.root + best[i]
	}
	return best
}

// path lists the directories from cgroup up to the mount's root.
func (m mount) path(cgroup string) (dirs []string) {
	root, names := split(m.root), split(cgroup)
	if len(root) > len(names) || !slices.Equal(root, names[:len(root)]) {
		return nil
	}
	names = names[len(root):]
	if len(names) > 0 && names[0] == ".." {
		return nil // above what is mounted
	}
	for n := len(names); n >= 0; n-- {
		dirs = append(dirs, strings.TrimRight(m.point, "/")+strings.Join(append([]string{""}, names[:n]...), "/"))
	}
	return dirs
}

func split(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}
