package overlay

import (
	"errors"
	"fmt"
	"go/build/constraint"
	"io/fs"
	"strings"
)

// Patch returns the files of package net that the rules change, by name, for the
// Linux programs of a Go release. dir is its src/net, release its name for errors.
func Patch(dir fs.FS, release string) (map[string][]byte, error) {
	files, err := linuxFiles(dir)
	if err != nil {
		return nil, err
	}
	fail := func(format string, args ...any) error {
		return fmt.Errorf("onload: %s does not fit: %s; this version of onload fits %s", release, fmt.Sprintf(format, args...), Fits)
	}
	for _, r := range rules {
		s := files[r.file]
		if s == nil {
			return nil, fail("the rule for %s: there is no %s", r.name, r.file)
		}
		if met := r.apply(s); met != r.sites {
			return nil, fail("the rule for %s: %s has %d places of its shape, not %d", r.name, r.file, met, r.sites)
		}
	}
	changed := map[string][]byte{}
	for name, s := range files {
		now := s
		if len(s.edits) > 0 {
			text, err := s.result()
			if err != nil {
				return nil, fail("%v", err)
			}
			changed[name] = text
			if now, err = parse(name, text); err != nil {
				return nil, fail("%v", err)
			}
		}
		if err := checkUses(now); err != nil {
			return nil, fail("%v", err)
		}
	}
	return changed, nil
}

// Fits are the Go releases whose net the rules know.
const Fits = "Go 1.25 and 1.26"

// linuxFiles parses the files of a package that are compiled for Linux.
func linuxFiles(dir fs.FS) (map[string]*source, error) {
	names, err := fs.Glob(dir, "*.go")
	if err != nil {
		return nil, err
	}
	files := map[string]*source{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") || otherSystem(name) {
			continue
		}
		text, err := fs.ReadFile(dir, name)
		if err != nil {
			return nil, err
		}
		if !forLinux(text) {
			continue
		}
		if files[name], err = parse(name, text); err != nil {
			return nil, err
		}
	}
	if len(files) == 0 {
		return nil, errors.New("onload: the toolchain has no source of package net")
	}
	return files, nil
}

// otherSystem reports whether the file's name is for another system than Linux.
func otherSystem(name string) bool {
	name = strings.TrimSuffix(name, ".go")
	for _, s := range strings.Fields("aix android darwin dragonfly freebsd illumos ios js netbsd openbsd plan9 solaris wasip1 wasm windows") {
		if strings.HasSuffix(name, "_"+s) {
			return true
		}
	}
	return false
}

// forLinux reports whether a file's build constraint, if any, can hold on Linux.
func forLinux(text []byte) bool {
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "package ") {
			break
		}
		if x, err := constraint.Parse(line); err == nil {
			return x.Eval(func(tag string) bool { return tag == "linux" || tag == "unix" || tag == "cgo" })
		}
	}
	return true
}
