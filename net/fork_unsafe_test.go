package onload_test

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rawFork makes a child with a copy of the memory, which sleeps and ends. The child has
// one thread and no runtime: it makes system calls and nothing else.
//
//go:norace
//go:nosplit
func rawFork(sleep *unix.Timespec) (pid int, err syscall.Errno) {
	n, _, err := syscall.RawSyscall(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0)
	if n == 0 && err == 0 {
		_, _, _ = syscall.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(sleep)), 0, 0)
		for {
			_, _, _ = syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
		}
	}
	return int(n), err
}
