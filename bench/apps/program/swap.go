package program

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

// The module of the server that is built with its import swapped, and the
// names of the two binaries.
const (
	natsModule = "github.com/nats-io/nats-server/v2"
	natsKernel = "nats-kernel"
	natsOnload = "nats-onload"
)

// buildNATS builds nats-server twice from the version that go.mod names: as it
// is, and from a copy whose files import this tree's package onload under the
// name net. It needs the sources of this module and the command go.
func buildNATS(dir string) error {
	root, err := sources()
	if err != nil {
		return err
	}
	if err := goTool(root, "build", "-trimpath", "-o", filepath.Join(dir, natsKernel), natsModule); err != nil {
		return err
	}
	from, err := goOutput(root, offline, "list", "-m", "-f", "{{.Dir}}", natsModule)
	if err != nil {
		return err
	}
	swapped := filepath.Join(dir, "nats-src")
	if err := copySwapped(from, swapped); err != nil {
		return err
	}
	// The main module is a copy of ours, which knows the versions of all.
	for _, f := range []string{"go.mod", "go.sum"} {
		b, err := os.ReadFile(filepath.Join(root, f))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, f), b, 0o644); err != nil {
			return err
		}
	}
	replace := func(module, path string) string { return "-replace=" + module + "=" + path }
	err = goTool(dir, "mod", "edit", replace("github.com/onload-go/onload", filepath.Join(root, "../..")),
		replace("github.com/onload-go/onload/bench", filepath.Join(root, "..")), replace(natsModule, swapped))
	if err != nil {
		return err
	}
	return goTool(dir, "build", "-trimpath", "-mod=mod", "-o", filepath.Join(dir, natsOnload), natsModule)
}

// fetchNATS fills Go's module cache for buildNATS, which runs where there is no
// network.
func fetchNATS() error {
	root, err := sources()
	if err != nil {
		return err
	}
	_, err = goOutput(root, nil, "list", "-deps", natsModule)
	return err
}

// offline has go fail rather than wait for a network.
var offline = []string{"GOPROXY=off"}

// sources is the folder of this module, as it was when this program was built.
// To build from it takes the command go.
func sources() (string, error) {
	_, file, _, _ := runtime.Caller(0)
	root := filepath.Dir(filepath.Dir(file))
	if _, err := os.Stat(filepath.Join(root, "go.mod")); err != nil {
		return "", fmt.Errorf("the sources of this program are needed: %w", err)
	}
	_, err := exec.LookPath("go")
	return root, err
}

func goTool(dir string, args ...string) error {
	_, err := goOutput(dir, offline, args...)
	return err
}

func goOutput(dir string, env []string, args ...string) (string, error) {
	c := exec.Command("go", args...)
	c.Dir = dir
	c.Env = append(append(os.Environ(), "GOWORK=off", "GOFLAGS=-buildvcs=false"), env...)
	var msgs bytes.Buffer
	c.Stderr = &msgs
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w: %s", args[0], err, bytes.TrimSpace(msgs.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}

// netImport is the import of net as gofmt writes it.
var netImport = regexp.MustCompile(`(?m)^(import )?(\t)?"net"$`)

// copySwapped copies a module's files, with onload for net.
func copySwapped(from, to string) error {
	swapped := 0
	err := filepath.WalkDir(from, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, p)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		if strings.HasSuffix(p, "_test.go") {
			return nil
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if strings.HasSuffix(p, ".go") && netImport.Match(b) {
			b = netImport.ReplaceAll(b, []byte(`${1}${2}net "github.com/onload-go/onload/net"`))
			swapped++
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o644)
	})
	if err == nil && swapped == 0 {
		err = errors.New("no file imports net")
	}
	return err
}
