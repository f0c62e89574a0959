package processors

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const childEnv = "PROCESSORS_TEST_CHILD"

// The test binary is also its own child, which answers commands by Views.
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) == "" {
		os.Exit(m.Run())
	}
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve() error {
	w := Watch()
	defer w.Close()
	out := json.NewEncoder(os.Stdout)
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		command, arg, _ := strings.Cut(in.Text(), " ")
		v := w.View()
		switch command {
		case "view":
		case "read":
			v = Read()
		case "throttled": // until the budget has been spent
			for v.Throttled.Throttled == 0 || v.Throttled.Time == 0 {
				v = w.View()
			}
		case "contend": // until two threads have been in each other's way
			if err := contend(w); err != nil {
				return err
			}
		case "mount": // a cgroup filesystem of this namespace
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
				return fmt.Errorf("private mounts: %w", err)
			}
			kind, dir, _ := strings.Cut(arg, " ")
			options := ""
			if kind == "cgroup" {
				options = "cpu"
			}
			if err := unix.Mount("none", dir, kind, 0, options); err != nil {
				return fmt.Errorf("mount %s at %s: %w", kind, dir, err)
			}
		default:
			return errors.New("unknown command " + command)
		}
		if err := out.Encode(v); err != nil {
			return err
		}
	}
	return nil
}

func contend(w *Watcher) error {
	before := w.View().Preempted
	delay, ok := w.RunDelay()
	if !ok {
		return errors.New("the kernel does not tell run delays: is CONFIG_SCHED_INFO off?")
	}
	var done atomic.Bool
	defer done.Store(true)
	for range 2 {
		go func() {
			runtime.LockOSThread()
			for !done.Load() {
			}
		}()
	}
	for {
		time.Sleep(time.Millisecond)
		now, ok := w.RunDelay()
		if !ok {
			return errors.New("run delays became unknown")
		}
		if now > delay && w.View().Preempted > before {
			return nil
		}
	}
}

type child struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.Writer
	out *json.Decoder
}

// start starts a child. Whatever it does, it ends within a minute.
func start(t *testing.T, attr *syscall.SysProcAttr) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childEnv+"=1", "GOMAXPROCS=4")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = attr
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
	hung := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	t.Cleanup(func() {
		hung.Stop()
		cmd.Process.Kill()
		cmd.Wait()
	})
	return &child{t, cmd, in, json.NewDecoder(out)}
}

func (c *child) ask(command string) (v View) {
	c.t.Helper()
	if _, err := fmt.Fprintln(c.in, command); err != nil {
		c.t.Fatal(err)
	}
	if err := c.out.Decode(&v); err != nil {
		c.t.Fatalf("%s: %v", command, err)
	}
	return v
}

// Affinity is the process's own, also when it changes. Two threads that both
// want the only processor wait for it by turns.
func TestAffinity(t *testing.T) {
	c := start(t, nil)
	v := c.ask("view")
	if v.Usable != runtime.NumCPU() {
		t.Errorf("%d processors usable, want %d", v.Usable, runtime.NumCPU())
	}
	var all, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	for cpu := 0; one.Count() == 0; cpu++ {
		if all.IsSet(cpu) {
			one.Set(cpu)
		}
	}
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", c.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		var id int
		fmt.Sscan(thread.Name(), &id)
		if err := unix.SchedSetaffinity(id, &one); err != nil {
			t.Fatal(err)
		}
	}
	if v := c.ask("view"); v.Usable != 1 {
		t.Errorf("%d processors usable, want 1", v.Usable)
	}
	if v := c.ask("read"); v.Usable != 1 {
		t.Errorf("%d processors usable, want 1", v.Usable)
	}
	c.ask("contend")
}
