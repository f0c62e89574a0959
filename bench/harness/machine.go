package harness

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/safchain/ethtool"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/bench/report"
	"github.com/onload-go/onload/internal/lab"
)

// Load is the machine's accounts, in seconds of processor time since boot.
type Load struct {
	At            time.Time
	Busy, Softirq float64
}

// ReadLoad reads them; the kernel counts in hundredths of a second.
func ReadLoad() Load {
	l := Load{At: time.Now()}
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return l
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	var user, nice, system, idle, iowait, irq, softirq float64
	if n, _ := fmt.Sscanf(string(line), "cpu %g %g %g %g %g %g %g", &user, &nice, &system, &idle, &iowait, &irq, &softirq); n == 7 {
		const hz = 100
		l.Softirq = (irq + softirq) / hz
		l.Busy = (user + nice + system) / hz
	}
	return l
}

// softirqsByCPU is the time of interrupts and softirqs on each processor, in
// seconds since boot.
func softirqsByCPU() (l []float64) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(b)) {
		var cpu int
		var user, nice, system, idle, iowait, irq, softirq float64
		if n, _ := fmt.Sscanf(line, "cpu%d %g %g %g %g %g %g %g", &cpu, &user, &nice, &system, &idle, &iowait, &irq, &softirq); n == 8 {
			for len(l) <= cpu {
				l = append(l, 0)
			}
			const hz = 100
			l[cpu] = (irq + softirq) / hz
		}
	}
	return l
}

// IRQTimeApart reports whether the kernel takes the time of interrupts and
// softirqs out of that of the process they interrupt. Unknown counts as no,
// so that nothing is counted twice.
func IRQTimeApart() bool {
	f, err := os.Open("/proc/config.gz")
	if err != nil {
		return false
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return false
	}
	b, err := io.ReadAll(z)
	return err == nil && bytes.Contains(b, []byte("CONFIG_IRQ_TIME_ACCOUNTING=y"))
}

// Machine records the conditions of the figures: the machine, the pair's devices
// (nil: there are none), and the versions of the modules named, by parts of
// their paths.
func Machine(p *lab.Pair, modules ...string) report.Machine {
	m := report.Machine{
		Go:       runtime.Version(),
		OS:       runtime.GOOS + "/" + runtime.GOARCH,
		CPU:      cpuModel(),
		CPUs:     runtime.NumCPU(),
		Kernel:   kernelRelease(),
		Load:     firstFields("/proc/loadavg", 3),
		GOGC:     env("GOGC", "100 (default)"),
		MemLimit: env("GOMEMLIMIT", "none (default)"),
		Revision: revision(),
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if slices.ContainsFunc(modules, func(part string) bool { return strings.Contains(d.Path, part) }) {
				m.Modules = append(m.Modules, d.Path+" "+d.Version)
			}
		}
	}
	if p == nil {
		return m
	}
	err := p.A.Do(func() error {
		m.Congestion = firstFields("/proc/sys/net/ipv4/tcp_congestion_control", 1)
		m.BusyPoll = "net.core.busy_poll " + firstFields("/proc/sys/net/core/busy_poll", 1) +
			", net.core.busy_read " + firstFields("/proc/sys/net/core/busy_read", 1)
		e, err := ethtool.NewEthtool()
		if err != nil {
			return err
		}
		defer e.Close()
		if m.Driver, err = e.DriverName(p.A.If); err != nil {
			return err
		}
		m.Offloads, err = e.Features(p.A.If)
		return err
	})
	if err != nil {
		m.Notes = append(m.Notes, fmt.Sprintf("driver and offloads are not known: %v", err))
	}
	return m
}

func env(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

func firstFields(file string, n int) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return "?"
	}
	f := strings.Fields(string(b))
	return strings.Join(f[:min(n, len(f))], " ")
}

func kernelRelease() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "?"
	}
	return unix.ByteSliceToString(u.Release[:]) + " " + unix.ByteSliceToString(u.Version[:])
}

func cpuModel() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "?"
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if k, v, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return "?"
}

// revision is the commit of the sources, if git knows.
func revision() string {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	b, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output()
	if err != nil {
		return "?"
	}
	return strings.TrimSpace(string(b))
}
