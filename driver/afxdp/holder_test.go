package afxdp

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
)

// small is enough for what these tests do.
var small = Config{Frames: 1024, RxRing: 256}

// somebody loads a foreign program that passes every packet.
func somebody(t *testing.T) *ebpf.Program {
	t.Helper()
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "somebody", Type: ebpf.XDP, License: "MIT",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()},
	})
	must(t, err)
	t.Cleanup(func() { prog.Close() })
	return prog
}

func attachFlags(m Mode) link.XDPAttachFlags {
	if m == ModeGeneric {
		return link.XDPGenericMode
	}
	return link.XDPDriverMode
}

// refused opens ns's interface, which must fail with an error of type E whose
// text has all parts.
func refused[E error](t *testing.T, ns *lab.NS, c Config, parts ...string) (e E) {
	t.Helper()
	d, err := tryOpen(ns, c)
	if err == nil {
		d.Close()
		t.Fatal("opened")
	}
	if !errors.As(err, &e) || !errors.Is(err, unix.EBUSY) {
		t.Fatalf("error %#v", err)
	}
	says(t, err.Error(), parts...)
	return e
}

func says(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%q does not mention %q", text, p)
		}
	}
}

// opens checks that a remedy has worked.
func opens(t *testing.T, ns *lab.NS, c Config) {
	t.Helper()
	d, err := tryOpen(ns, c)
	if err != nil {
		t.Fatalf("the remedy does not work: %v", err)
	}
	must(t, d.Close())
}

// obey runs the command that an error asks for, in the interface's namespace.
func obey(t *testing.T, ns *lab.NS, text string) {
	t.Helper()
	m := regexp.MustCompile(`run "([^"]+)"`).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("%q names no command", text)
	}
	if out, err := ns.Command("sh", "-c", m[1]).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", m[1], err, out)
	}
}

// A foreign program that ip(8) attached, which no process keeps, goes by the
// command that the error names. Both root and a process that may not look for
// bpf_links are told the command.
func TestForeignProgram(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			p := lab.NewPair(t, lab.Options{})
			prog := somebody(t)
			attach := func() {
				t.Helper()
				l, err := p.A.Netlink().LinkByIndex(p.A.Index)
				must(t, err)
				must(t, p.A.Do(func() error { return netlink.LinkSetXdpFdWithFlags(l, prog.FD(), int(attachFlags(mode))) }))
			}
			attach()
			before := openFiles(t)
			e := refused[*ProgramError](t, p.A, small, p.A.If, "somebody", mode.String())
			if e.Name != "somebody" || e.Mode != mode.String() || e.PID != 0 || e.Link != 0 {
				t.Errorf("error %#v", e)
			}
			noMoreFiles(t, before)
			if now := program(t, p.A); now.prog != e.ID {
				t.Errorf("program %d was replaced by %d", e.ID, now.prog)
			}
			obey(t, p.A, e.Error())
			opens(t, p.A, small)

			attach()
			c := p.A.Nobody(t, []string{"net_admin", "net_raw", "bpf"}, 8<<20, "-test.run=^TestHelperHold$", "-test.v")
			c.Env = append(os.Environ(), "AFXDP_HOLD=auto", "AFXDP_IF="+p.A.If)
			said := startHolder(t, c)
			_ = c.Wait()
			says(t, said, "cannot be seen from here")
			obey(t, p.A, said)
			opens(t, p.A, small)
		})
	}
}

// An Engine of this process that has the interface is not to be stopped with the
// process.
func TestOwnProgram(t *testing.T) {
	for _, mode := range modes {
		p := lab.NewPair(t, lab.Options{})
		c := small
		c.Mode = mode
		d, err := tryOpen(p.A, c)
		must(t, err)
		e := refused[*ProgramError](t, p.A, small, "onload_steer", mode.String(), "close the Engine of this process")
		if e.PID != os.Getpid() || strings.Contains(e.Error(), "stop process") {
			t.Errorf("error %#v: %v", e, e)
		}
		must(t, d.Close())
		opens(t, p.A, small)
	}
}

// TestHelperHold is a process that opens the interface and keeps it, or with
// AFXDP_HOLD=queue only its queues.
func TestHelperHold(t *testing.T) {
	mode := os.Getenv("AFXDP_HOLD")
	if mode == "" {
		return
	}
	d, err := Open(Config{
		Interface: os.Getenv("AFXDP_IF"), Frames: 1024,
		Mode: map[string]Mode{"native": ModeNative, "generic": ModeGeneric}[mode],
	})
	if err == nil {
		err = d.AddPort(tcp, anyPort(80))
	}
	if err == nil && mode == "queue" {
		err = d.link.Close()
	}
	fmt.Println("opened:", err)
	if err == nil {
		time.Sleep(time.Minute)
	}
}

// startHolder starts a TestHelperHold, and returns what became of its Open.
func startHolder(t *testing.T, c *lab.Cmd) string {
	t.Helper()
	out, err := c.StdoutPipe()
	must(t, err)
	must(t, c.Start())
	for s := bufio.NewScanner(out); s.Scan(); {
		if said, ok := strings.CutPrefix(s.Text(), "opened: "); ok {
			return said
		}
	}
	t.Fatal("the other process has not opened anything")
	return ""
}

// hold starts another process that has the interface.
func hold(t *testing.T, ns *lab.NS, what string) *lab.Cmd {
	t.Helper()
	c := ns.Command("/proc/self/exe", "-test.run=^TestHelperHold$", "-test.v")
	c.Env = append(os.Environ(), "AFXDP_HOLD="+what, "AFXDP_IF="+ns.If)
	if said := startHolder(t, c); said != "<nil>" {
		t.Fatal(said)
	}
	return c
}

// A process that has the interface is named. Once it is stopped, or killed, the
// interface can be opened at once, though the kernel needs a moment to take back
// what was the process's.
func TestKilled(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			p := lab.NewPair(t, lab.Options{})
			for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM, syscall.SIGKILL} {
				c := hold(t, p.A, mode.String())
				if program(t, p.A).prog == 0 {
					t.Fatal("the child has no program attached")
				}
				refused[*ProgramError](t, p.A, small, fmt.Sprintf("stop process %d (", c.Process.Pid))
				must(t, c.Process.Signal(sig))
				if sig == syscall.SIGTERM {
					_ = c.Wait()
				}
				d := openAt(t, p.A, Config{Mode: mode})
				if d.Caps().Mode != mode.String() {
					t.Errorf("mode %s", d.Caps().Mode)
				}
				must(t, p.B.Ping(p.A.Addr4))
				must(t, d.Close())
				_ = c.Wait()
			}
		})
	}
}

// A queue that another socket has, of this process or of another one. A kernel
// without CONFIG_XDP_SOCKETS_DIAG does not tell whose it is.
func TestQueueTaken(t *testing.T) {
	p := lab.NewPair(t, lab.Options{Queues: 2})
	told := diagnosable(t, p.A)
	t.Logf("the kernel tells the holder: %t", told)
	taken := func(holder string) string {
		if !told {
			return "is taken by another AF_XDP socket, whose process cannot be seen from here: stop that"
		}
		return "is taken by " + holder
	}
	pid := func(pid int) int {
		if !told {
			return 0
		}
		return pid
	}
	first := small
	first.Queues = []int{0}
	d, err := tryOpen(p.A, first)
	must(t, err)
	must(t, d.link.Close()) // else the program is in the way first
	e := refused[*QueueError](t, p.A, small, "queue 0 of "+p.A.If, taken("an Engine of this process: close that"), "choose other queues")
	if e.PID != pid(os.Getpid()) || e.Queue != 0 || e.Interface != p.A.If {
		t.Errorf("error %#v", e)
	}
	if program(t, p.A).prog != 0 {
		t.Error("program left after failure")
	}
	second := small
	second.Queues = []int{1}
	opens(t, p.A, second)
	must(t, d.Close())
	opens(t, p.A, small)

	p = lab.NewPair(t, lab.Options{})
	c := hold(t, p.A, "queue")
	e = refused[*QueueError](t, p.A, small, taken(fmt.Sprintf("process %d (", c.Process.Pid)), "stop that")
	if e.PID != pid(c.Process.Pid) || strings.Contains(e.Error(), "other queues") {
		t.Errorf("%v (%#v): there are no other queues", e, e)
	}
	must(t, c.Process.Kill())
	opens(t, p.A, small)
	_ = c.Wait()
}

// A file that keeps a program attached is named.
func TestPinned(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	c := p.A.Command("/proc/self/exe", "-test.run=^TestHelperPinned$", "-test.v")
	c.Env = append(os.Environ(), "AFXDP_PINNED="+p.A.If)
	c.SysProcAttr.Unshareflags = unix.CLONE_NEWNS // its mount ends with it
	out, err := c.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "PASS: TestHelperPinned") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestHelperPinned is the process of TestPinned.
func TestHelperPinned(t *testing.T) {
	name := os.Getenv("AFXDP_PINNED")
	if name == "" {
		return
	}
	dir := t.TempDir()
	must(t, unix.Mount("bpf", dir, "bpf", 0, ""))
	defer unix.Unmount(dir, 0)
	l, err := lookupLink(name)
	must(t, err)
	pin := filepath.Join(dir, "kept")
	x, err := link.AttachXDP(link.XDPOptions{Program: somebody(t), Interface: l.index, Flags: link.XDPGenericMode})
	must(t, err)
	must(t, x.Pin(pin))
	must(t, x.Close())
	c := small
	c.Interface = name
	_, err = Open(c)
	var e *ProgramError
	if !errors.As(err, &e) || e.Pin != pin || e.PID != 0 {
		t.Fatalf("error %#v: %v", e, err)
	}
	says(t, e.Error(), `run "rm `+pin+`"`)
	must(t, os.Remove(pin))
	d, err := Open(c)
	must(t, err)
	must(t, d.Close())
}
