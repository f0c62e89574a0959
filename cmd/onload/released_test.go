package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/need"
	"github.com/onload-go/onload/internal/overlay"
	"github.com/onload-go/onload/internal/testlong"
)

var (
	keptPrograms = flag.String("released.dir", "", "a folder for the programs that TestReleased builds; those that are there are used")
	clientPrefix = flag.String("released.prefix", "", "words to put before clients' commands, such as \"nice -n 10\"")
)

// release is a program from the module proxy, and its use. Its clients are on the
// kernel; of a release that is a client the server is.
type release struct {
	name    string
	modules []string // FOLDER=MODULE@VERSION: together they are the program's repository
	build   []string // NAME=FOLDER PACKAGE, and further arguments of go build
	client  bool
	command func(s *served) (args, env []string) // to start it, or the server of a client
	user    uint32                               // to run it
	ready   string                               // what its log says then
	port    string                               // or where it accepts connections then
	settled string                               // URL whose answer has the word answer when all is as configured
	own     int                                  // at most so many connections it opens to itself, through the kernel
	metrics string                               // address and path of its metrics of package prometheus
	uses    []use
}

// use is a way to use a release: a command for a client in namespace B.
type use struct {
	name    string
	command func(s *served, l load) []string
	report  func(output string) (*report, error) // nil: bench/apps/client's
	kernel  bool                                 // the program asks for what only the kernel's socket has
}

// released copies the release from the module proxy into dir, as it is but for the
// permission to write: the go command lets nobody add to main packages of its cache.
func released(t *testing.T, dir, module string) {
	t.Helper()
	c := exec.Command("go", "mod", "download", "-json", module)
	c.Dir = t.TempDir()
	out, err := c.Output()
	var m struct{ Dir string }
	if jerr := json.Unmarshal(out, &m); err != nil || jerr != nil || m.Dir == "" {
		need.Missing(t, "the module proxy for %s: %v\n%s", module, err, out)
	}
	if err := os.CopyFS(dir, os.DirFS(m.Dir)); err != nil {
		t.Fatal(err)
	}
}

// programs builds what is not there of a release, by onload build or, if plain, by the
// go command, and the client. It returns their folder.
func (r *release) programs(t *testing.T, plain bool) string {
	t.Helper()
	dir := *keptPrograms
	if dir == "" {
		dir = t.TempDir()
	}
	build(t, filepath.Join(dir, "plain"), "../../bench/apps", true, "client", "./client")
	dir = filepath.Join(dir, map[bool]string{false: "onload", true: "plain"}[plain])
	if r.client {
		build(t, dir, "../../bench/apps", plain, "client", "./client")
	}
	var sources string
	for _, b := range r.build {
		name, args, _ := strings.Cut(b, "=")
		f := strings.Fields(args)
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			continue
		}
		if sources == "" {
			sources = t.TempDir()
			for _, m := range r.modules {
				folder, module, _ := strings.Cut(m, "=")
				released(t, filepath.Join(sources, folder), module)
			}
		}
		build(t, dir, filepath.Join(sources, f[0]), plain, name, f[1:]...)
	}
	return dir
}

// build builds a program in folder source as dir/name. With -trimpath it does not matter
// for the go command's cache where the folder is.
func build(t *testing.T, dir, source string, plain bool, name string, args ...string) {
	t.Helper()
	to := filepath.Join(dir, name)
	if _, err := os.Stat(to); err == nil {
		return
	}
	args = append([]string{"-C", source, "-trimpath", "-o", to}, args...)
	c := exec.Command("go", append([]string{"build"}, args...)...)
	if !plain {
		o, err := overlay.Build("build", args)
		if err != nil {
			t.Fatal(err)
		}
		c = exec.Command(o.Path, o.Args[1:]...)
		c.Env = o.Env
	}
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", name, err, out)
	}
}

// TestReleased: releases from the module proxy, built as they are, do what their users
// expect over AF_XDP: the kernel of their namespace has no connection with these, nor a
// datagram, but has when they are told to leave us alone, and where a program asks
// for what only the kernel's sockets have.
func TestReleased(t *testing.T) {
	needReleases(t)
	for _, r := range releases {
		t.Run(r.name, func(t *testing.T) {
			programs := r.programs(t, false)
			for _, off := range []bool{false, true} {
				t.Run(fmt.Sprintf("off=%v", off), func(t *testing.T) {
					s := r.serve(t, lab.NewPair(t, lab.Options{}), programs, off)
					for _, u := range r.uses {
						before := s.kernelCarried()
						s.use(t, u, load{users: 32, requests: 640})
						if n := s.kernelCarried() - before; n > r.own != (off || u.kernel) {
							t.Errorf("%s: the kernel has carried %d connections and datagrams", u.name, n)
						}
					}
				})
			}
		})
	}
}

func needReleases(t *testing.T) {
	lab.NeedRoot(t)
	if !testlong.Enabled() {
		t.Skip("builds large programs; -long")
	}
}
