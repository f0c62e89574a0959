// Command stdtest runs tests of the standard library, taken from GOROOT, and of modules
// over a stack and over the kernel, each test in a process of its own, and prints what
// differs.
//
//	go run ./internal/stdtest [-run REGEXP] [-v] [-j N] [PACKAGE...]
//
// The packages are net, net/http, crypto/tls, net/rpc, net/smtp and net/textproto
// unless others are named. A module's package is named with its version, such as
// golang.org/x/net@v0.62.0/http2, and comes from the module proxy. Loopback addresses are those of a link in memory that leads
// back to the process (build tag onload_loop): all connections of a test are
// accelerated, but for those of other processes. Over the kernel runs the same
// program with ONLOAD=off.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/onload-go/onload/internal/overlay"
)

var packages = strings.Fields("net net/http crypto/tls net/rpc net/smtp net/textproto")

var (
	only    = flag.String("run", "", "tests whose name matches this regular expression only")
	verbose = flag.Bool("v", false, "print the output of tests that differ")
	workers = flag.Int("j", 2, "how many tests run at once")
	short   = flag.Bool("short", false, "as go test -short")
	patient = flag.Duration("timeout", time.Minute, "for each test")
)

func main() {
	flag.Parse()
	if flag.NArg() > 0 {
		packages = flag.Args()
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	match, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp("", "stdtest")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	var table []row
	for _, pkg := range packages {
		s, err := build(pkg, tmp)
		if err != nil {
			return err
		}
		r, err := s.run(match)
		if err != nil {
			return err
		}
		table = append(table, r)
	}
	print(table)
	return nil
}

// suite are the tests of a package.
type suite struct {
	pkg, program, dir string
}

// build builds the tests of a package, over the loop, in folder tmp.
func build(pkg, tmp string) (*suite, error) {
	g, err := overlay.FindGo("")
	if err != nil {
		return nil, err
	}
	changed, err := changedTests(g)
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(filepath.Dir(changed))
	s := &suite{pkg, filepath.Join(tmp, strings.ReplaceAll(pkg, "/", "_")), filepath.Join(g.Root, "src", filepath.FromSlash(pkg))}
	args := []string{"-c", "-tags=onload_loop", "-overlay=" + changed, "-o", s.program, pkg}
	if m, ok := inModule(pkg); ok {
		root, err := m.copyTo(tmp)
		if err != nil {
			return nil, err
		}
		s.dir = filepath.Join(root, m.folder)
		args = []string{"-C", root, "-c", "-tags=onload_loop", "-o", s.program, "./" + m.folder}
	}
	c, err := overlay.Build("test", args)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(c.Path, c.Args[1:]...)
	cmd.Env, cmd.Stderr = c.Env, os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("the tests of %s: %w", pkg, err)
	}
	return s, nil
}

// tests lists the names.
func (s *suite) tests(match *regexp.Regexp) (names []string, err error) {
	c := exec.Command(s.program, "-test.list=^Test", "-test.short") // short: net/http does not look for goroutines left
	c.Dir = s.dir
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("the list of tests of %s: %w", s.pkg, err)
	}
	for name := range strings.Lines(string(out)) {
		if name = strings.TrimSpace(name); strings.HasPrefix(name, "Test") && match.MatchString(name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// changedTests writes an overlay with the tests that would not compile: they look for
// the poll.FD inside of netFD, and find a struct that embeds it.
func changedTests(g overlay.Go) (file string, err error) {
	const name, was, now = "sendfile_test.go", "&wantConn.(*TCPConn).fd.pfd != gotFD", "&wantConn.(*TCPConn).fd.pfd.FD != gotFD"
	text, err := os.ReadFile(filepath.Join(g.Root, "src/net", name))
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "stdtest")
	if err != nil {
		return "", err
	}
	replaced := filepath.Join(dir, name)
	if err := os.WriteFile(replaced, []byte(strings.ReplaceAll(string(text), was, now)), 0o644); err != nil {
		return "", err
	}
	plan, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(g.Root, "src/net", name): replaced}})
	if err != nil {
		return "", err
	}
	file = filepath.Join(dir, "overlay.json")
	return file, os.WriteFile(file, plan, 0o644)
}
