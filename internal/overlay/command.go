package overlay

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Command is a go command that is ready to run.
type Command struct {
	Path string
	Args []string // with the name of the command
	Env  []string
	Dir  string // to run in; empty: here
}

// Build returns the go command that does what `go verb line...` does, with sockets of
// ours in package net. Programs for other systems than Linux get the plain command.
func Build(verb string, line []string) (*Command, error) {
	p, err := prepare(verb, line)
	if err != nil {
		return nil, err
	}
	if p.goroot == "" {
		return &Command{Path: p.g.Command(), Args: append([]string{"go", verb}, line...), Env: os.Environ()}, nil
	}
	c := &Command{Path: p.g.Command(), Args: []string{"go", verb}, Env: append(os.Environ(), p.env()...)}
	if p.dir != "" {
		c.Args = append(c.Args, "-C", p.dir)
	}
	c.Args = append(c.Args, p.flags()...)
	c.Args = append(c.Args, p.before...)
	c.Args = append(c.Args, p.packages...)
	if p.files() {
		c.Args = append(c.Args, p.extra)
	}
	c.Args = append(c.Args, p.after...)
	return c, nil
}

// prepared is a go command's arguments with what they need.
type prepared struct {
	*args
	g      Go
	goroot string // empty: the system needs none
	plan   string // the overlay file; empty: none
	extra  string // the Go file to add where the arguments are Go files
	mods   string // the module cache with the changed module; empty: the user's
}

func (p *prepared) env() []string {
	env := []string{"GOROOT=" + p.goroot, "GOTOOLCHAIN=local"}
	if p.mods != "" {
		env = append(env, "GOMODCACHE="+p.mods)
	}
	return env
}

func (p *prepared) flags() []string {
	flags := []string{"-tags=" + withTag(p.tags)}
	if p.plan != "" {
		flags = append(flags, "-overlay="+p.plan)
	}
	if p.mods != "" {
		flags = append(flags, "-modcacherw") // what is extracted there can be removed
	}
	return flags
}

func prepare(verb string, line []string) (*prepared, error) {
	a, err := parseArgs(verb, line)
	if err != nil {
		return nil, err
	}
	p := &prepared{args: a}
	if a.released() {
		return p, p.prepareReleased()
	}
	a.fromGOFLAGS(os.Getenv("GOFLAGS"))
	packages := a.listInBackground() // while the toolchain says what it is
	if p.g, err = FindGo(a.dir); err != nil {
		return nil, err
	}
	if p.g.OS != "linux" {
		return p, nil
	}
	if a.fromGOFLAGS(p.g.Flags) { // the user's file of settings has more
		packages = a.listInBackground()
	}
	cache := filepath.Join(p.g.Cache, "onload")
	if p.goroot, err = Root(p.g, filepath.Join(cache, "goroot")); err != nil {
		return nil, err
	}
	return p, p.overlayFiles(verb, packages, filepath.Join(cache, "overlay"))
}

// linked is the file that each program gets.
const linked = "zz_onload.go"

func linkedText(pkg string) []byte {
	return fmt.Appendf(nil, "// Added by onload build.\n\npackage %s\n\nimport _ %q\n", pkg, "net/onload")
}

// overlayFiles writes the overlay by which each main package, or each package with
// tests, imports net/onload.
func (p *prepared) overlayFiles(verb string, packages <-chan listed, cache string) error {
	replace, err := p.users()
	if err != nil {
		return err
	}
	add := func(dir, name, pkg string) error {
		file, err := keep(cache, ".go", linkedText(pkg))
		replace[filepath.Join(dir, name)] = file
		return err
	}
	if p.files() {
		dir, err := filepath.Abs(filepath.Join(p.dir, filepath.Dir(p.packages[0])))
		if err != nil {
			return err
		}
		p.extra = filepath.Join(filepath.Dir(p.packages[0]), linked)
		if !filepath.IsAbs(p.extra) {
			p.extra = "." + string(filepath.Separator) + p.extra
		}
		if err := add(dir, linked, "main"); err != nil {
			return err
		}
	} else if err := p.eachPackage(verb, <-packages, add); err != nil {
		return err
	}
	return p.writePlan(replace, cache)
}

// writePlan writes the overlay file.
func (p *prepared) writePlan(replace map[string]string, cache string) error {
	text, err := json.MarshalIndent(map[string]any{"Replace": replace}, "", "\t")
	if err != nil {
		return err
	}
	p.plan, err = keep(cache, ".json", text)
	return err
}

// listed is what go list says about the packages of the arguments.
type listed struct {
	text []byte
	err  error
}

// listInBackground lists the packages, unless the arguments are Go files.
func (a *args) listInBackground() <-chan listed {
	c := make(chan listed, 1)
	if a.files() {
		return c
	}
	line := []string{"list", "-e", "-find", "-f", "{{.Name}}\t{{.Dir}}\t{{len .TestGoFiles}}{{len .XTestGoFiles}}"}
	line = append(line, a.list...)
	line = append(line, "-tags="+withTag(a.tags))
	if a.overlay != "" {
		line = append(line, "-overlay="+a.overlay)
	}
	line = append(append(line, "--"), a.packages...)
	dir := a.dir
	go func() {
		text, err := run(dir, os.Environ(), "go", line...)
		c <- listed{text, err}
	}()
	return c
}

// eachPackage calls add for each package of the arguments that gets a file.
func (p *prepared) eachPackage(verb string, l listed, add func(dir, name, pkg string) error) error {
	if l.err != nil {
		return l.err
	}
	for line := range strings.Lines(string(l.text)) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		if len(f) < 3 || f[1] == "" {
			continue
		}
		f[1] = p.inRoot(f[1])
		var err error
		switch {
		case verb == "test" && f[2] != "00":
			err = add(f[1], strings.TrimSuffix(linked, ".go")+"_test.go", f[0]+"_test")
		case verb != "test" && f[0] == "main":
			err = add(f[1], linked, "main")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// inRoot is a path in the GOROOT that replaces the real one. Paths elsewhere stay as
// they are.
func (p *prepared) inRoot(path string) string {
	if below, ok := strings.CutPrefix(path, p.g.Root+string(filepath.Separator)); ok {
		return filepath.Join(p.goroot, below)
	}
	return path
}

// users are the replacements of the user's own overlay.
func (p *prepared) users() (map[string]string, error) {
	o := struct{ Replace map[string]string }{map[string]string{}}
	if p.overlay == "" {
		return o.Replace, nil
	}
	text, err := os.ReadFile(p.overlay)
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &o); err != nil {
		return nil, fmt.Errorf("%s: %w", p.overlay, err)
	}
	for from, to := range o.Replace { // files of the standard library are elsewhere now
		if own := p.inRoot(from); own != from {
			delete(o.Replace, from)
			o.Replace[own] = to
		}
	}
	return o.Replace, nil
}

// keep writes a file into cache, named by its content, and returns its path.
func keep(cache, suffix string, text []byte) (string, error) {
	h := sha256.Sum256(text)
	file := filepath.Join(cache, hex.EncodeToString(h[:8])+suffix)
	if have, err := os.ReadFile(file); err == nil && bytes.Equal(have, text) {
		use(file)
		return file, nil
	}
	trim(cache)
	return file, write(file, text)
}

// write makes a file with its folder, at once: others find nothing, what was there,
// or all.
func write(file string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), "new-")
	if err != nil {
		return err
	}
	_, err = tmp.Write(text)
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
	}
	return err
}

// Env returns the settings by which another build system builds the packages as Build
// does, as lines of a shell.
func Env(line []string) (string, error) {
	p, err := prepare("build", line)
	if err != nil {
		return "", err
	}
	if p.goroot == "" {
		return "", nil
	}
	var b strings.Builder
	for _, v := range append(p.env(), "GOFLAGS="+strings.Join(append(p.flags(), p.before...), " ")) {
		name, value, _ := strings.Cut(v, "=")
		fmt.Fprintf(&b, "export %s='%s'\n", name, strings.ReplaceAll(value, "'", `'\''`))
	}
	return b.String(), nil
}
