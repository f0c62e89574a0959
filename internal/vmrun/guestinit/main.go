// Guestinit is the first process of a guest of package vmrun: it loads the modules,
// gives NICs to vfio-pci, runs the program and reports how it ended.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/vmrun/protocol"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guestinit is the first process of a guest: see internal/vmrun")
		os.Exit(2)
	}
	// QEMU runs with -no-reboot, so that this ends it.
	defer unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	if err := run(); err != nil {
		fmt.Println("guestinit:", err) // to the console: no port to the host may be open
	}
}

func run() error {
	if err := mountAll(); err != nil {
		return err
	}
	b, err := os.ReadFile(protocol.File)
	if err != nil {
		return err
	}
	var c protocol.Config
	if err := json.Unmarshal(b, &c); err != nil {
		return err
	}
	if err := loadModules(c.Early, c.Remapping); err != nil {
		return err
	}
	ports, err := openPorts()
	if err != nil {
		return err
	}
	var r protocol.Report
	if r.Code, err = runProgram(&c, ports); err != nil {
		r.Err = err.Error()
	}
	r.Kernel = complaints()
	if err := report(ports, r); err != nil {
		return err
	}
	time.Sleep(time.Minute) // the host ends QEMU
	return nil
}

func report(p *ports, r protocol.Report) error { return json.NewEncoder(p.status).Encode(r) }

func mountAll() error {
	for _, m := range []struct {
		dir, kind string
		needed    bool
	}{
		{"/dev", "devtmpfs", true}, {"/proc", "proc", true}, {"/sys", "sysfs", true},
		{"/tmp", "tmpfs", true}, {"/run", "tmpfs", true}, {"/dev/shm", "tmpfs", true},
		// Not every kernel has these.
		{"/sys/fs/bpf", "bpf", false}, {"/sys/fs/cgroup", "cgroup2", false},
		{"/sys/kernel/debug", "debugfs", false}, {"/sys/kernel/tracing", "tracefs", false},
		{"/dev/hugepages", "hugetlbfs", false},
	} {
		err := os.MkdirAll(m.dir, 0o755)
		if err == nil {
			err = unix.Mount(m.kind, m.dir, m.kind, 0, "")
		}
		if err != nil && m.needed {
			return fmt.Errorf("mounting %s: %w", m.dir, err)
		}
	}
	return nil
}

func loadModules(names []string, remapping bool) error {
	for _, name := range names {
		f, err := os.Open("/modules/" + name)
		if err != nil {
			return err
		}
		param := ""
		if name == "vfio_iommu_type1" && !remapping {
			param = "allow_unsafe_interrupts=1"
		}
		err = unix.FinitModule(int(f.Fd()), param, 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("loading module %s: %w", name, err)
		}
	}
	return nil
}

// ports are the guest's ends of those of package protocol.
type ports struct {
	stdout, stderr, status *os.File
	monitor                string // path
}

func openPorts() (*ports, error) {
	for range 1000 {
		var p ports
		names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			b, err := os.ReadFile(n)
			if err != nil {
				return nil, err
			}
			dev := "/dev/" + filepath.Base(filepath.Dir(n))
			// A blocking write, through whomever, returns once the host has the data.
			open := func() *os.File {
				fd, err := unix.Open(dev, unix.O_WRONLY|unix.O_CLOEXEC, 0)
				if err != nil {
					return nil // udev's work, the kernel's own here, may be under way
				}
				return os.NewFile(uintptr(fd), dev)
			}
			switch strings.TrimSpace(string(b)) {
			case protocol.Stdout:
				p.stdout = open()
			case protocol.Stderr:
				p.stderr = open()
			case protocol.Status:
				p.status = open()
			case protocol.Monitor:
				p.monitor = dev
			}
		}
		if p.stdout != nil && p.stderr != nil && p.status != nil && p.monitor != "" {
			return &p, nil
		}
		for _, f := range []*os.File{p.stdout, p.stderr, p.status} {
			f.Close() // a port is opened once at a time
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil, errors.New("the ports to the host do not appear")
}

func runProgram(c *protocol.Config, p *ports) (int, error) {
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}); err != nil {
		return 0, err
	}
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return 0, fmt.Errorf("lo: %w", err)
	}
	env, err := giveNICs(c)
	if err != nil {
		return 0, err
	}
	if err := report(p, protocol.Report{Started: true}); err != nil {
		return 0, err
	}
	cmd := exec.Command(c.Args[0], c.Args[1:]...)
	cmd.Env = append(append(c.Env, env...), "VMRUN_MONITOR="+p.monitor)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/tmp", p.stdout, p.stderr
	return exitCode(cmd.Run())
}

// exitCode is Report.Code of a program that ended with err.
func exitCode(err error) (int, error) {
	var ended *exec.ExitError
	if !errors.As(err, &ended) {
		return 0, err
	}
	if ws := ended.Sys().(syscall.WaitStatus); ws.Signaled() { // package unix has its own type
		return 128 + int(ws.Signal()), nil
	}
	return ended.ExitCode(), nil
}
