package undo

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
)

// The settings of these tests are files whose first line counts, with one digit:
// 0 is how they were. The kernel's files know no position, ours grow.
const setting, asWas, changed = "setting", "0\n", "1\n"

func fresh(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	write(t, filepath.Join(dir, setting), asWas)
	return dir
}

func write(t testing.TB, path, s string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, setting))
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:2])
}

// planOf changes the setting in dir. A setting that is changed already is
// somebody else's, and left alone.
func planOf(dir string) func() ([]Step, func() error, error) {
	return func() ([]Step, func() error, error) {
		path := filepath.Join(dir, setting)
		b, err := os.ReadFile(path)
		if err != nil || string(b[:2]) != asWas {
			return nil, nil, err
		}
		return []Step{{File: path, Data: b[:2]}}, func() error { return os.WriteFile(path, []byte(changed), 0) }, nil
	}
}

// state is the folder that Make writes to.
func state(dir string) string { return filepath.Join(dir, "run") }

func makeHold(t *testing.T, dir string) *Hold {
	t.Helper()
	h, err := Make(state(dir), "if", planOf(dir))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// eventually waits for what another process does.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("never: ", what)
		}
	}
}

// restorers are the processes that guard settings below dir.
func restorers(t *testing.T, dir string) (pids []int) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err == nil && bytes.Contains(b, []byte("onload-restorer")) && bytes.Contains(b, []byte(dir)) {
			pid, err := strconv.Atoi(strings.Split(f, "/")[2])
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

func TestClose(t *testing.T) {
	dir := fresh(t)
	for range 3 {
		h := makeHold(t, dir)
		if got := read(t, dir); got != changed {
			t.Fatalf("%q, not changed", got)
		}
		if n := len(restorers(t, dir)); n != 1 {
			t.Fatalf("%d restorers", n)
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "put back", func() bool { return read(t, dir) == asWas })
		if err := h.Close(); err != nil {
			t.Error("again:", err)
		}
	}
	eventually(t, "no restorer", func() bool { return len(restorers(t, dir)) == 0 })
}

// Several processes that share settings have one restorer, and the last puts back.
func TestLast(t *testing.T) {
	dir := fresh(t)
	var all []*Hold
	for range 3 {
		all = append(all, makeHold(t, dir))
	}
	if n := len(restorers(t, dir)); n != 1 {
		t.Errorf("%d restorers", n)
	}
	for i, h := range all {
		if got := read(t, dir); got != changed {
			t.Fatalf("%q although %d hold it", got, len(all)-i)
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "put back", func() bool { return read(t, dir) == asWas })
}

// Somebody else's settings are kept, and no restorer is needed.
func TestNothingToDo(t *testing.T) {
	dir := fresh(t)
	write(t, filepath.Join(dir, setting), "7\n")
	h := makeHold(t, dir)
	if h != nil {
		t.Error("a Hold of nothing")
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if got := read(t, dir); got != "7\n" {
		t.Errorf("%q", got)
	}
}

func TestChangeFails(t *testing.T) {
	dir := fresh(t)
	path := filepath.Join(dir, setting)
	broken := errors.New("broken")
	_, err := Make(state(dir), "if", func() ([]Step, func() error, error) {
		return []Step{{File: path, Data: []byte(asWas)}}, func() error {
			write(t, path, changed) // half of it
			return broken
		}, nil
	})
	if !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	eventually(t, "put back", func() bool { return read(t, dir) == asWas })
}

func TestTooMuch(t *testing.T) {
	dir := fresh(t)
	_, err := Make(state(dir), "if", func() ([]Step, func() error, error) { return make([]Step, maxSteps+1), nil, nil })
	if err == nil {
		t.Error("more steps than the restorer can do")
	}
}

const childEnv = "ONLOAD_TEST_UNDO"

// TestMain is also the process that holds a setting until it is killed.
func TestMain(m *testing.M) {
	dir := os.Getenv(childEnv)
	if dir == "" {
		os.Exit(m.Run())
	}
	if _, err := Make(state(dir), "if", planOf(dir)); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("held")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// holder starts a process that holds the setting in dir.
func holder(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	cmd.Stderr = os.Stderr
	// A process that leads a group, as a service does.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if line != "held\n" {
		t.Fatalf("the holder says %q, %v", line, err)
	}
	return cmd
}

// die kills the process and those in its group.
func die(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
}

func TestKilled(t *testing.T) {
	dir := fresh(t)
	c := holder(t, dir)
	if got := read(t, dir); got != changed {
		t.Fatalf("%q, not changed", got)
	}
	die(t, c)
	eventually(t, "put back", func() bool { return read(t, dir) == asWas })
	eventually(t, "no restorer", func() bool { return len(restorers(t, dir)) == 0 })
}

// Of two processes the first, which started the restorer, dies first.
func TestLastKilled(t *testing.T) {
	dir := fresh(t)
	first, last := holder(t, dir), holder(t, dir)
	die(t, first)
	// A restorer that hears us has not seen the end.
	h := &Hold{dir: state(dir), name: "if"}
	if !h.join() {
		t.Fatal("no restorer for the second")
	}
	if got := read(t, dir); got != changed {
		t.Errorf("%q although one process holds it", got)
	}
	h.fifo.Close()
	die(t, last)
	eventually(t, "put back", func() bool { return read(t, dir) == asWas })
}

// If the restorer is killed too, the settings stay; the next process finds them as
// they were before.
func TestRestorerKilled(t *testing.T) {
	for name, next := range map[string]func(t *testing.T, dir string){
		"Make": func(t *testing.T, dir string) {
			h := makeHold(t, dir)
			if h == nil {
				t.Fatal("taken for somebody else's")
			}
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		},
		"Heal": func(t *testing.T, dir string) {
			if err := Heal(state(dir), "other"); err != nil || read(t, dir) != changed {
				t.Errorf("healed what was not asked for (%v)", err)
			}
			if err := Heal(state(dir), "i"); err != nil {
				t.Error(err)
			}
			if got := read(t, dir); got != asWas {
				t.Errorf("%q", got)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := fresh(t)
			c := holder(t, dir)
			kill(t, restorers(t, dir))
			die(t, c)
			if got := read(t, dir); got != changed {
				t.Fatalf("%q: put back by nobody", got)
			}
			next(t, dir)
			eventually(t, "put back", func() bool { return read(t, dir) == asWas })
		})
	}
	t.Run("Close", func(t *testing.T) {
		dir := fresh(t)
		h := makeHold(t, dir)
		kill(t, restorers(t, dir))
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		if got := read(t, dir); got != asWas {
			t.Errorf("%q", got)
		}
	})
}

func kill(t *testing.T, pids []int) {
	t.Helper()
	if len(pids) != 1 {
		t.Fatalf("restorers %v", pids)
	}
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "dead", func() bool {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pids[0]))
		return err != nil || strings.Contains(string(b), ") Z ")
	})
}

// Heal leaves alone what the living hold, and forgets what was half written.
func TestHealLiving(t *testing.T) {
	dir := fresh(t)
	h := makeHold(t, dir)
	if err := Heal(state(dir), ""); err != nil {
		t.Error(err)
	}
	if got := read(t, dir); got != changed {
		t.Errorf("%q", got)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	write(t, filepath.Join(state(dir), "half"), `[{"File":"/dev/nu`)
	if err := Heal(state(dir), ""); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(filepath.Join(state(dir), "half")); err != nil || len(b) != 0 {
		t.Errorf("%q, %v: tried again for ever", b, err)
	}
}
