package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// pinnedEnv marks a process that runs on one processor.
const pinnedEnv = "GO_BENCH_PINNED"

// processors returns those that this process may use.
func processors() []int {
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

// pin moves this process to the processor cpu, unless that is negative. It
// starts the program anew: threads that there are already would stay where
// they are, and the Go runtime would keep its number of processors.
func pin(cpu int) error {
	if cpu < 0 || os.Getenv(pinnedEnv) != "" {
		return nil
	}
	var set unix.CPUSet
	set.Set(cpu)
	runtime.LockOSThread()
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("processor %d: %w", cpu, err)
	}
	return syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), pinnedEnv+"="+strconv.Itoa(cpu)))
}
