package overlay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
)

// Module is this module's path.
const Module = "github.com/onload-go/onload"

// Go is a Go toolchain.
type Go struct {
	Root    string // GOROOT
	Version string // such as go1.26.8
	OS      string // GOOS and GOARCH of what is built
	Arch    string
	Flags   string // GOFLAGS
	Cache   string // GOCACHE
	Modules string // GOMODCACHE
}

// Command is the toolchain's go command.
func (g Go) Command() string { return filepath.Join(g.Root, "bin", "go") }

// FindGo returns the toolchain that the go command chooses in dir: the go.mod there
// may ask for another than the one in PATH.
func FindGo(dir string) (g Go, err error) {
	text, err := run(dir, os.Environ(), "go", "env", "-json", "GOROOT", "GOVERSION", "GOOS", "GOARCH", "GOFLAGS", "GOCACHE", "GOMODCACHE")
	if err != nil {
		return g, err
	}
	var env struct{ GOROOT, GOVERSION, GOOS, GOARCH, GOFLAGS, GOCACHE, GOMODCACHE string }
	if err := json.Unmarshal(text, &env); err != nil {
		return g, err
	}
	version, _, _ := strings.Cut(env.GOVERSION, " ") // experiments follow
	return Go{env.GOROOT, version, env.GOOS, env.GOARCH, env.GOFLAGS, env.GOCACHE, env.GOMODCACHE}, nil
}

// run returns what a command prints. Its error has what it says about the failure.
func run(dir string, env []string, name string, args ...string) ([]byte, error) {
	c := exec.Command(name, args...)
	c.Dir, c.Env = dir, env
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && errs.Len() > 0 {
			return nil, fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
		}
		return nil, fmt.Errorf("%s %s: %w", name, strings.Join(args, " "), err)
	}
	return out.Bytes(), nil
}

// Source is the module's source: the folder of each package, by import path, that a
// program gets with netglue.
type Source struct {
	Packages map[string]string
	Decides  []string // the files that decide which packages these are
}

// FindSource finds the packages for programs that g builds. The module is the folder
// that this command was built from, or its release in the module cache.
func FindSource(g Go) (*Source, error) {
	dir, err := moduleDir(g)
	if err != nil {
		return nil, err
	}
	s := &Source{Packages: map[string]string{}, Decides: []string{filepath.Join(dir, "go.mod")}}
	// Files for all processors are taken, but some import packages of their own.
	env := append(os.Environ(), "GOROOT="+g.Root, "GOTOOLCHAIN=local", "GOWORK=off", "GOFLAGS=", "GOOS="+g.OS, "GOARCH="+g.Arch, "GOEXPERIMENT=")
	text, err := run(dir, env, g.Command(), "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}\t{{.Dir}}{{end}}",
		"./internal/engine", "./"+glue)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(text)) {
		if pkg, from, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
			s.Packages[pkg] = from
		}
	}
	if s.Packages[Module+"/"+glue] == "" {
		return nil, fmt.Errorf("onload: there is no package %s in %s", glue, dir)
	}
	return s, nil
}

// glue is the package that a program imports, by net/onload.
const glue = "netglue"

// moduleDir is the folder of this module's source.
func moduleDir(g Go) (string, error) {
	if _, file, _, ok := runtime.Caller(0); ok {
		dir := filepath.Dir(filepath.Dir(filepath.Dir(file)))
		if text, err := os.ReadFile(filepath.Join(dir, "go.mod")); err == nil && bytes.HasPrefix(text, []byte("module "+Module+"\n")) {
			return dir, nil
		}
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Path != Module || info.Main.Version == "" || info.Main.Version == "(devel)" {
		return "", fmt.Errorf("onload: the source of %s is not there; install a release: go install %s/cmd/onload@latest", Module, Module)
	}
	m, err := download(g.Command(), Module, info.Main.Version)
	return m.Dir, err
}
