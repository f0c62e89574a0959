package vmrun

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/need"
	"github.com/onload-go/onload/internal/testlong"
)

var only = flag.String("guest.run", "", "the `pattern` of the tests that run in guests, in place of all")

// Results are the tests that passed in a guest and those that were skipped there.
// Others have failed the caller's test.
type Results struct {
	Passed, Skipped []string
}

// Test runs the tests for guests of the package whose test calls it, in one guest.
func Test(t *testing.T, g Guest) Results {
	t.Helper()
	if testing.Short() {
		t.Skip("SKIPPED with -short: what runs in the guest would be the same as without")
	}
	nics, err := g.parse()
	if err != nil {
		t.Fatal(err)
	}
	release := g.needs(t, nics)
	ctx := t.Context()
	files, err := compile()
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := lock(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	k, err := fetched(ctx, g.suite())
	if err != nil {
		lacks(t, g.suite(), err.Error())
	}
	args, err := g.arguments(nics, k.image, release)
	if err != nil {
		t.Fatal(err)
	}
	var wires []*os.File
	if g.TAP {
		if wires, err = taps(nics, max(1, g.Queues)); err != nil {
			t.Fatal(err)
		}
		defer closeAll(wires)
	}
	limit := testlong.Pick(10*time.Minute, 2*time.Hour)
	if end, ok := t.Deadline(); ok {
		limit = min(limit, time.Until(end)-30*time.Second)
	}
	program := []string{"-test.v", "-test.timeout=" + limit.String(), "-test.run=" + or(*only, or(g.Run, "^TestGuest")), "-test.skip=" + g.Skip}
	if testlong.Enabled() {
		program = append(program, "-long")
	}
	var out bytes.Buffer
	for attempt := 1; ; attempt++ {
		image, err := g.image(k, nics, files.init, files.test, program)
		if err != nil {
			t.Fatal(err)
		}
		out.Reset()
		// The guest's test ends first, and says where it stands.
		ctx, cancel := context.WithTimeout(ctx, limit+15*time.Second)
		r, err := boot(ctx, args, append([]*os.File{image}, wires...), io.MultiWriter(&out, t.Output()))
		cancel()
		image.Close()
		if errors.Is(err, errNotStarted) && attempt < 6 {
			t.Log("once more: ", err)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if r.Err != "" {
			t.Fatal("the guest: ", r.Err)
		}
		for _, line := range r.Kernel {
			t.Error("the guest's kernel: ", line)
		}
		if r.Code != 0 {
			t.Errorf("the tests in the guest ended with status %d", r.Code)
		}
		return results(t, out.String())
	}
}

var verdict = regexp.MustCompile(`(?m)^ *--- (PASS|SKIP): (\S+) `)

// results reads the verdicts. Tests that did not run at all fail.
func results(t *testing.T, out string) (r Results) {
	for _, m := range verdict.FindAllStringSubmatch(out, -1) {
		if m[1] == "PASS" {
			r.Passed = append(r.Passed, m[2])
		} else {
			r.Skipped = append(r.Skipped, m[2])
		}
	}
	if len(r.Passed) == 0 {
		t.Error("no test passed in the guest")
	}
	return r
}

// needs ends the test where the guest cannot be, and returns QEMU's release.
func (g Guest) needs(t *testing.T, nics []nic) int {
	t.Helper()
	if runtime.GOARCH != "amd64" {
		t.Skip("SKIPPED: guests run on amd64")
	}
	if what := missing(); what != "" {
		need.Missing(t, "%s", what)
	}
	release, err := qemuMajor()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range nics {
		if least := minQEMU(n.model); release < least {
			lacks(t, n.model, fmt.Sprintf("QEMU %d for %s, and here is %d (on Debian 12: of bookworm-backports)", least, n.model, release))
		}
	}
	for _, name := range g.Programs {
		if _, err := findProgram(name); err != nil {
			need.Missing(t, "%s, for the guest", name)
		}
	}
	if g.TAP {
		f, err := os.OpenFile(tunFile, os.O_RDWR, 0)
		if err != nil {
			lacks(t, "tap", err.Error())
		}
		f.Close()
	}
	return release
}

// withoutEnv names suites, models and "tap", separated by spaces, that .ci/run tried to
// install, in vain. It has said so.
const withoutEnv = "ONLOAD_GUESTS_WITHOUT"

func lacks(t *testing.T, what, why string) {
	t.Helper()
	for w := range strings.FieldsSeq(os.Getenv(withoutEnv)) {
		if w == what {
			t.Skip("SKIPPED, needs ", why)
		}
	}
	need.Missing(t, "%s", why)
}

type binaries struct {
	init, test []byte
}

// compile builds the package's tests for guests, and guestinit.
var compile = sync.OnceValues(func() (b binaries, err error) {
	cache, err := cacheDir()
	if err != nil {
		return b, err
	}
	dir, err := scratch(cache)
	if err != nil {
		return b, err
	}
	defer os.RemoveAll(dir)
	build := func(name string, args ...string) []byte {
		path := filepath.Join(dir, name)
		c := exec.Command("go", append(args[:1:1], append([]string{"-o", path}, args[1:]...)...)...)
		c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOAMD64=v1") // no libraries in the guest
		c.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGINT}
		out, e := c.CombinedOutput()
		if e != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w\n%s", strings.Join(c.Args, " "), e, out))
			return nil
		}
		data, e := os.ReadFile(path)
		err = errors.Join(err, e)
		return data
	}
	runtime.LockOSThread() // for Pdeathsig
	defer runtime.UnlockOSThread()
	b.test = build("test", "test", "-tags=guest", "-c", ".")
	// As root in somebody else's clone git refuses to say which revision it is.
	b.init = build("init", "build", "-buildvcs=false", "github.com/onload-go/onload/internal/vmrun/guestinit")
	if err != nil {
		return b, err
	}
	return b, watch()
})

// watch has the go command see which files the tests for guests are of, so that it
// does not take yesterday's result when they have changed.
func watch() error {
	files, err := filepath.Glob("*.go")
	if err != nil {
		return err
	}
	for _, f := range files {
		if _, err := os.ReadFile(f); err != nil {
			return err
		}
	}
	return nil
}
