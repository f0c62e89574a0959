package stack

import "golang.org/x/sys/unix"

// settleXDP waits until the XDP programs that run have ended: those that begin
// afterwards see the ports that have been released. The kernel runs a program within an
// RCU section, and this call waits for those (membarrier(2)). Where it is not to be had
// nothing is waited for.
func settleXDP() {
	const cmdGlobal = 1 // linux/membarrier.h
	_, _, _ = unix.Syscall(unix.SYS_MEMBARRIER, cmdGlobal, 0, 0)
}
