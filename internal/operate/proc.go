package operate

import (
	"cmp"
	"debug/buildinfo"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// programOf is the name of a process's program.
func programOf(pid int) string {
	if path, err := os.Readlink(procFile(pid, "exe")); err == nil {
		return filepath.Base(strings.TrimSuffix(path, " (deleted)"))
	}
	b, err := os.ReadFile(procFile(pid, "comm"))
	if err != nil {
		return "?"
	}
	return strings.TrimSpace(string(b))
}

func procFile(pid int, name string) string { return fmt.Sprintf("/proc/%d/%s", pid, name) }

// module is the path of the library's module.
const module = "github.com/onload-go/onload"

// buildOf is what a program's file says about its making.
type build struct {
	Onload string `json:"onload"` // version of the library, as `go version -m` has it
	Go     string `json:"go"`
	Glued  bool   `json:"glued"` // by onload build: package net has the sockets
}

func buildOf(pid int) (b build) {
	info, err := buildinfo.ReadFile(procFile(pid, "exe"))
	if err != nil {
		return b
	}
	b.Go = info.GoVersion
	revision := ""
	for _, s := range info.Settings {
		switch s.Key {
		case "-tags":
			for tag := range strings.SplitSeq(s.Value, ",") {
				b.Glued = b.Glued || tag == "onload"
			}
		case "vcs.revision":
			revision = s.Value[:min(len(s.Value), 12)]
		}
	}
	if info.Main.Path == module {
		b.Onload = cmp.Or(info.Main.Version, "(devel)")
		if b.Onload == "(devel)" && revision != "" {
			b.Onload = revision
		}
		return b
	}
	for _, d := range info.Deps {
		if d.Path == module {
			b.Onload = d.Version
			if d.Replace != nil {
				b.Onload = cmp.Or(d.Replace.Version, "(replaced)")
			}
		}
	}
	return b
}

// userName is a user's name, or number.
func userName(uid int) string {
	if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
		return u.Username
	}
	return strconv.Itoa(uid)
}

// socketInodes are the sockets that a process has descriptors of.
func socketInodes(pid int) (map[uint32]bool, error) {
	dir := procFile(pid, "fd")
	l, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	m := map[uint32]bool{}
	for _, e := range l {
		to, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err != nil {
			continue // it has just been closed
		}
		if s, ok := strings.CutPrefix(to, "socket:["); ok {
			if n, err := strconv.ParseUint(strings.TrimSuffix(s, "]"), 10, 32); err == nil {
				m[uint32(n)] = true
			}
		}
	}
	return m, nil
}
