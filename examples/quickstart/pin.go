package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// pinned marks, in the environment, a process that runs on one processor.
const pinned = "QUICKSTART_PINNED"

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
// starts the program anew, since the existing threads would stay where they
// are.
func pin(cpu int) error {
	if cpu < 0 || os.Getenv(pinned) != "" {
		return nil
	}
	var set unix.CPUSet
	set.Set(cpu)
	runtime.LockOSThread()
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("processor %d: %w", cpu, err)
	}
	return syscall.Exec("/proc/self/exe", os.Args, append(os.Environ(), pinned+"="+strconv.Itoa(cpu)))
}
