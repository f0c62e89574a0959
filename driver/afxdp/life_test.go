package afxdp

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
)

// program tells which XDP program is on ns's interface.
func program(t *testing.T, ns *lab.NS) (l *linkInfo) {
	t.Helper()
	must(t, ns.Do(func() (err error) {
		l, err = lookupLink(ns.If)
		return err
	}))
	return l
}

func openFiles(t *testing.T) (names []string) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil {
			names = append(names, to)
		}
	}
	slices.Sort(names)
	return names
}

// A device can be opened again at once, and closed it leaves nothing.
func TestReopen(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			p := lab.NewPair(t, lab.Options{Queues: 2})
			c := Config{Mode: mode, Frames: 1024, RxRing: 256}
			d, err := tryOpen(p.A, c)
			must(t, err)
			must(t, d.Close())
			before := openFiles(t)
			for range 5 {
				d, err := tryOpen(p.A, c)
				must(t, err)
				if l := program(t, p.A); l.prog == 0 || l.progMode != mode.String() {
					t.Errorf("program %d in %s mode", l.prog, l.progMode)
				}
				must(t, d.AddPort(udp, anyPort(7)))
				must(t, d.AddFlow(udp, v4Port(p.A, 7), v4Port(p.B, 7), true))
				must(t, d.Close())
				if l := program(t, p.A); l.prog != 0 {
					t.Errorf("program %d is left", l.prog)
				}
			}
			if after := openFiles(t); len(after) != len(before) {
				t.Errorf("%d descriptors before, %d after: %v", len(before), len(after), after)
			}
		})
	}
}

// The program stays on while the Device is referenced, whatever the GC does.
func TestKeptAlive(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	d := openAt(t, p.A, Config{Frames: 1024, RxRing: 256})
	for range 3 {
		runtime.GC()
		time.Sleep(5 * time.Millisecond)
	}
	if program(t, p.A).prog == 0 {
		t.Error("detached")
	}
	runtime.KeepAlive(d)
}

func TestForeignProgram(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			p := lab.NewPair(t, lab.Options{})
			prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
				Name: "somebody", Type: ebpf.XDP, License: "MIT",
				Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()},
			})
			must(t, err)
			defer prog.Close()
			flags := link.XDPDriverMode
			if mode == ModeGeneric {
				flags = link.XDPGenericMode
			}
			var l link.Link
			must(t, p.A.Do(func() (err error) {
				l, err = link.AttachXDP(link.XDPOptions{Program: prog, Interface: p.A.Index, Flags: flags})
				return err
			}))
			defer l.Close()
			before := openFiles(t)
			d, err := tryOpen(p.A, Config{Mode: mode})
			if err == nil {
				d.Close()
				t.Fatal("opened over a foreign program")
			}
			var pe *ProgramError
			if !errors.As(err, &pe) || pe.Name != "somebody" || pe.Mode != mode.String() || pe.PID != os.Getpid() || !errors.Is(err, unix.EBUSY) {
				t.Errorf("error %#v", err)
			}
			for _, part := range []string{p.A.If, fmt.Sprint(pe.ID), "somebody", mode.String(), "stop process"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not mention %q", err, part)
				}
			}
			if after := openFiles(t); len(after) != len(before) {
				t.Errorf("descriptors left: %v", after)
			}
			if now := program(t, p.A); now.prog != pe.ID {
				t.Errorf("program %d was replaced by %d", pe.ID, now.prog)
			}
		})
	}
}

// A queue that another socket has.
func TestQueueTaken(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	d := openAt(t, p.A, Config{Frames: 1024, RxRing: 256})
	must(t, d.link.Close()) // else the program is in the way first
	start := time.Now()
	d2, err := tryOpen(p.A, Config{Frames: 1024, RxRing: 256})
	if err == nil {
		d2.Close()
		t.Fatal("opened a queue twice")
	}
	var qe *QueueError
	if !errors.As(err, &qe) || qe.Queue != 0 || qe.Interface != p.A.If || !errors.Is(err, unix.EBUSY) {
		t.Errorf("error %#v: %v", err, err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	if diag := diagnosable(t, p.A); diag && qe.PID != os.Getpid() {
		t.Errorf("holder %d, want %d: %v", qe.PID, os.Getpid(), err)
	} else if !diag {
		t.Log("this kernel does not list AF_XDP sockets (CONFIG_XDP_SOCKETS_DIAG)")
	}
	if program(t, p.A).prog != 0 {
		t.Error("program left after failure")
	}
}

func diagnosable(t *testing.T, ns *lab.NS) (ok bool) {
	t.Helper()
	must(t, ns.Do(func() error {
		req := make([]byte, 20)
		req[0] = unix.AF_XDP
		_, err := nlQuery(unix.NETLINK_SOCK_DIAG, unix.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP, req)
		ok = err == nil
		return nil
	}))
	return ok
}

func TestNoSuchInterface(t *testing.T) {
	lab.NeedRoot(t)
	for _, name := range []string{"", "nosuch0", "999999", "averyveryverylongname"} {
		if _, err := Open(Config{Interface: name}); !errors.Is(err, unix.ENODEV) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, c := range []Config{{RxRing: 100}, {TxRing: 8}, {Frames: -1}, {Frames: 1}, {FrameSize: 1000}} {
		c.Interface = "lo"
		if d, err := Open(c); err == nil {
			d.Close()
			t.Errorf("%+v accepted", c)
		}
	}
	p := lab.NewPair(t, lab.Options{})
	if d, err := Open(Config{Interface: p.A.If, InNS: p.A.Do, Queues: []int{64}}); err == nil {
		d.Close()
		t.Error("queue 64 accepted")
	}
}

// TestNoEthernet: loopback and its like are refused. Steered away from the
// kernel, this host's own clients would find nobody.
func TestNoEthernet(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	_, err := Open(Config{Interface: "lo", InNS: p.A.Do})
	if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "lo is no Ethernet link") {
		t.Error(err)
	}
}

// By number, with small frames.
func TestByNumber(t *testing.T) {
	p := lab.NewPair(t, lab.Options{Neighbors: true})
	d, err := Open(Config{Interface: fmt.Sprint(p.A.Index), InNS: p.A.Do, FrameSize: 2048, Frames: 2048})
	must(t, err)
	defer d.Close()
	if d.Name() != p.A.If || d.Index() != p.A.Index || d.Arena().FrameSize() != 2048 {
		t.Errorf("%s, %d", d.Name(), d.Index())
	}
	if n := d.queues[0].Lacks(); n != 1024 {
		t.Errorf("lacks %d, want half of the frames", n)
	}
	d.queues[0].Refill()
	must(t, d.AddPort(udp, anyPort(7)))
	frame := datagram(v4of(p.B), v4of(p.A), 7, 7, pattern(1472))
	injector(t, p.B)(frame)
	if got, n := receive(t, d, d.queues[0], time.Second); len(got) != len(frame) || n != 1 {
		t.Errorf("received %d bytes in %d", len(got), n)
	}
}

// Without capabilities the error says which are missing.
func TestPermission(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	err := p.A.Do(func() (err error) {
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var had, none [2]unix.CapUserData
		must(t, unix.Capget(&hdr, &had[0]))
		none = had
		none[0].Effective, none[1].Effective = 0, 0
		must(t, unix.Capset(&hdr, &none[0]))
		defer func() { must(t, unix.Capset(&hdr, &had[0])) }()
		d, err := Open(Config{Interface: p.A.If})
		if err == nil {
			d.Close()
		}
		return err
	})
	if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "CAP_BPF") || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Errorf("error %v", err)
	}
	if strings.Contains(err.Error(), "MEMLOCK") {
		t.Errorf("error %v: a limit on memory is not what is wrong", err)
	}
}

// TestHelperHold is the child of TestKilled.
func TestHelperHold(t *testing.T) {
	if os.Getenv("AFXDP_HOLD") == "" {
		return
	}
	mode := ModeNative
	if os.Getenv("AFXDP_HOLD") == ModeGeneric.String() {
		mode = ModeGeneric
	}
	d, err := Open(Config{Interface: "veth0", Mode: mode})
	if err == nil {
		err = d.AddPort(tcp, anyPort(80))
	}
	fmt.Println("opened:", err)
	time.Sleep(time.Minute)
}

// kill -9 leaves no program and no socket behind.
func TestKilled(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			p := lab.NewPair(t, lab.Options{})
			c := p.A.Command("/proc/self/exe", "-test.run=^TestHelperHold$", "-test.v")
			c.Env = append(os.Environ(), "AFXDP_HOLD="+mode.String())
			out, err := c.StdoutPipe()
			must(t, err)
			must(t, c.Start())
			for s := bufio.NewScanner(out); s.Scan(); {
				if strings.HasPrefix(s.Text(), "opened:") {
					if s.Text() != "opened: <nil>" {
						t.Fatal(s.Text())
					}
					break
				}
			}
			if program(t, p.A).prog == 0 {
				t.Fatal("the child has no program attached")
			}
			if d, err := tryOpen(p.A, Config{}); err == nil {
				d.Close()
				t.Error("opened while the child has it")
			} else if !strings.Contains(err.Error(), fmt.Sprintf("process %d ", c.Process.Pid)) {
				t.Errorf("%q does not name process %d", err, c.Process.Pid)
			}
			must(t, c.Process.Kill())
			_ = c.Wait()
			for start := time.Now(); program(t, p.A).prog != 0; time.Sleep(time.Millisecond) {
				if time.Since(start) > 2*time.Second {
					t.Fatal("the program is still there")
				}
			}
			must(t, p.B.Ping(p.A.Addr4))
			d := openAt(t, p.A, Config{Mode: mode})
			if d.Caps().Mode != mode.String() {
				t.Errorf("mode %s", d.Caps().Mode)
			}
		})
	}
}

// What Auto chooses on veth, and what cannot be had.
func TestModes(t *testing.T) {
	p := lab.NewPair(t, lab.Options{Queues: 2})
	d, err := tryOpen(p.A, Config{})
	must(t, err)
	if c := d.Caps(); c.Mode != "generic" || !c.LargeRx {
		t.Errorf("caps %+v", c)
	}
	must(t, d.Close())
	d, err = tryOpen(p.A, Config{Queues: []int{0}})
	must(t, err)
	if c := d.Caps(); c.Mode != "native" || c.LargeRx {
		t.Errorf("one of two queues: caps %+v", c)
	}
	must(t, d.Close())
	d, err = tryOpen(p.A, Config{ZeroCopy: ZeroCopyRequire})
	if !errors.Is(err, unix.EOPNOTSUPP) || !strings.Contains(err.Error(), "frames of 4096") || !strings.Contains(err.Error(), "frames of 2048") {
		t.Errorf("zero-copy on veth: %v", err)
		if err == nil {
			d.Close()
		}
	}
	if program(t, p.A).prog != 0 {
		t.Error("program left")
	}
}
