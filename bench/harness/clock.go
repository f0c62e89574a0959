package harness

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ProcessTime is the processor time that a process has used so far, in
// seconds: that of all its threads, to the nanosecond. It is 0 for a process
// that is gone.
func ProcessTime(pid int) float64 {
	// MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) of linux/posix-timers.h.
	var t unix.Timespec
	if unix.ClockGettime(int32(^pid<<3|2), &t) != nil {
		return 0
	}
	return float64(t.Nano()) / 1e9
}

// TreeTime is ProcessTime of a process and all that it started and have not
// ended.
func TreeTime(pid int) float64 {
	t := ProcessTime(pid)
	tasks, _ := filepath.Glob("/proc/" + strconv.Itoa(pid) + "/task/*/children")
	for _, f := range tasks {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // the thread has ended
		}
		for _, c := range strings.Fields(string(b)) {
			if child, err := strconv.Atoi(c); err == nil {
				t += TreeTime(child)
			}
		}
	}
	return t
}

// Softirqs reads the time of softirqs that no process is charged.
type Softirqs struct {
	apart   bool  // see IRQTimeApart
	threads []int // ksoftirqd, by processor
}

// NewSoftirqs finds out how this kernel counts them.
func NewSoftirqs() *Softirqs {
	s := &Softirqs{apart: IRQTimeApart()}
	comms, _ := filepath.Glob("/proc/[0-9]*/comm")
	for _, f := range comms {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		n, ok := strings.CutPrefix(strings.TrimSpace(string(b)), "ksoftirqd/")
		if !ok {
			continue
		}
		cpu, err := strconv.Atoi(n)
		if err != nil {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(f)))
		if err != nil {
			continue
		}
		for len(s.threads) <= cpu {
			s.threads = append(s.threads, 0)
		}
		s.threads[cpu] = pid
	}
	return s
}

// Read returns them for each processor, in seconds since boot. Kernels with
// CONFIG_IRQ_TIME_ACCOUNTING take all softirqs out of the processes they
// interrupt, and /proc/stat has them in hundredths of a second; with others
// only the threads ksoftirqd/N are not part of some process, to the
// nanosecond.
func (s *Softirqs) Read() []float64 {
	if s.apart {
		return softirqsByCPU()
	}
	l := make([]float64, len(s.threads))
	for i, pid := range s.threads {
		if pid != 0 {
			l[i] = ProcessTime(pid)
		}
	}
	return l
}
