package harness

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// placedEnv marks a process that is already where it must run.
const placedEnv = "GO_BENCH_PLACED"

// Processors returns those that this process may use.
func Processors() []int {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil
	}
	var l []int
	for i := range len(set) * 64 {
		if set.IsSet(i) {
			l = append(l, i)
		}
	}
	return l
}

// Place moves this process to the processor cpu, unless that is negative, and
// into the cgroup whose file cgroup.procs is named, unless that is empty. It
// starts the program anew: existing threads would stay where they are, and the
// Go runtime would keep its number of processors.
func Place(cpu int, cgroup string) error {
	if cpu < 0 && cgroup == "" || os.Getenv(placedEnv) != "" {
		return nil
	}
	if cgroup != "" {
		if err := os.WriteFile(cgroup, []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
			return err
		}
	}
	runtime.LockOSThread()
	// The signal that ends this process with its parent belongs to the first
	// thread, and this may be another.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	if cpu >= 0 {
		var set unix.CPUSet
		set.Set(cpu)
		if err := unix.SchedSetaffinity(0, &set); err != nil {
			return fmt.Errorf("processor %d: %w", cpu, err)
		}
	}
	return syscall.Exec(Self, os.Args, append(os.Environ(), placedEnv+"=yes"))
}
