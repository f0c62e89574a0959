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
	plan   string // the overlay file
	extra  string // the Go file to add where the arguments are Go files
}

func (p *prepared) env() []string {
	return []string{"GOROOT=" + p.goroot, "GOTOOLCHAIN=local"}
}

func (p *prepared) flags() []string {
	return []string{"-tags=" + withTag(p.tags), "-overlay=" + p.plan}
}

func prepare(verb string, line []string) (*prepared, error) {
	a, err := parseArgs(verb, line)
	if err != nil {
		return nil, err
	}
	p := &prepared{args: a}
	if p.g, err = FindGo(a.dir); err != nil {
		return nil, err
	}
	if p.g.OS != "linux" {
		return p, nil
	}
	a.fromGOFLAGS(p.g.Flags)
	cache := filepath.Join(p.g.Cache, "onload")
	own, err := FindSource(p.g)
	if err != nil {
		return nil, err
	}
	if p.goroot, err = Root(p.g, own, filepath.Join(cache, "goroot")); err != nil {
		return nil, err
	}
	return p, p.overlayFiles(verb, filepath.Join(cache, "overlay"))
}

// linked is the file that each program gets.
const linked = "zz_onload.go"

// overlayFiles writes the overlay by which each main package, or each package with
// tests, imports net/onload.
func (p *prepared) overlayFiles(verb, cache string) error {
	replace, err := p.users()
	if err != nil {
		return err
	}
	add := func(dir, name, pkg string) error {
		text := fmt.Sprintf("// Added by onload build.\n\npackage %s\n\nimport _ %q\n", pkg, "net/onload")
		file, err := keep(cache, ".go", []byte(text))
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
	} else if err := p.eachPackage(verb, add); err != nil {
		return err
	}
	text, err := json.MarshalIndent(map[string]any{"Replace": replace}, "", "\t")
	if err != nil {
		return err
	}
	p.plan, err = keep(cache, ".json", text)
	return err
}

// eachPackage calls add for each package of the arguments that gets a file.
func (p *prepared) eachPackage(verb string, add func(dir, name, pkg string) error) error {
	line := []string{"list", "-e", "-find", "-f", "{{.Name}}\t{{.Dir}}\t{{len .TestGoFiles}}{{len .XTestGoFiles}}"}
	line = append(line, p.list...)
	line = append(line, "-tags="+withTag(p.tags))
	if p.overlay != "" {
		line = append(line, "-overlay="+p.overlay)
	}
	line = append(append(line, "--"), p.packages...)
	env := append(os.Environ(), "GOROOT="+p.g.Root, "GOTOOLCHAIN=local")
	text, err := run(p.dir, env, p.g.Command(), line...)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		if len(f) < 3 || f[1] == "" {
			continue
		}
		f[1] = p.inRoot(f[1])
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
		return file, nil
	}
	if err := os.MkdirAll(cache, 0o777); err != nil {
		return "", err
	}
	tmp, err := os.CreateTemp(cache, "new-")
	if err != nil {
		return "", err
	}
	_, err = tmp.Write(text)
	if cerr := tmp.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	return file, err
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
