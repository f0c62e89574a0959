package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

const mountsEnv = "LAB_OWN_MOUNTS"

// OwnMounts runs the tests of a TestMain in a mount namespace of their own, as root: what
// they mount goes with them, also if they are killed. It runs the test binary again, and
// returns the exit status.
func OwnMounts(run func() int) int {
	if os.Geteuid() != 0 {
		return run()
	}
	if os.Getenv(mountsEnv) != "" {
		_ = os.Unsetenv(mountsEnv) // children need no other
		return run()
	}
	runtime.LockOSThread() // Pdeathsig is of the thread (prctl(2))
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Args[0] = os.Args[0]
	c.Env = append(os.Environ(), mountsEnv+"=1")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := c.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return max(exit.ExitCode(), 1)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab: tests in a mount namespace of their own:", err)
		return 1
	}
	return 0
}
