package stack

import "golang.org/x/sys/unix"

// sharing finds out during a spin whether another thread wants the processor.
//
// Two things show it. A sched_yield(2) that ran somebody: it also lets a
// thread run that the kernel has not let preempt the spinner, which would
// otherwise wait for the tick, 4 ms. But a yield reaches threads of the same
// cgroup and session only. Any other shows as a gap between two looks at the
// clock; so does an interrupt, or the hypervisor. The kernel's count of
// involuntary context switches tells them apart: it also counts a yield that
// ran somebody.
type sharing struct {
	next   int64 // when to yield
	looked int64 // when the clock was last looked at, 0: not comparable
	base   int64 // context switches of this thread, -1: unknown
}

const (
	// courtesyFirst is how long a spin goes on before it yields the processor,
	// courtesyEvery how long from one time to the next, ns: 1 us of system
	// calls each.
	courtesyFirst = int64(3_000)
	courtesyEvery = int64(20_000)
	// A yield takes 0.5 us alone, and 1.6 us more with two context switches.
	yieldAlone = int64(1_500)
	// Without others no gap between two looks is as long, but for interrupts.
	gapAlone = int64(10_000)
)

// yield lets another thread run, and reports whether one did.
func (h *sharing) yield(now int64) (shared bool) {
	h.base = switches()
	before := nanotime()
	schedYield()
	after := nanotime()
	h.next, h.looked = after+courtesyEvery, after
	return after-before > yieldAlone && switches() != h.base
}

// preempted reports whether another thread ran since the last look; now was
// just read.
func (h *sharing) preempted(now int64) bool {
	gap := now - h.looked
	fresh := h.looked != 0
	h.looked = now
	return fresh && gap > gapAlone && h.base >= 0 && switches() != h.base
}

// switches returns how often the thread lost its processor while it could have
// gone on: ru_nivcsw of getrusage(2).
func switches() int64 {
	var r unix.Rusage
	if unix.Getrusage(unix.RUSAGE_THREAD, &r) != nil {
		return -1
	}
	return r.Nivcsw
}

// noteShared has waits sleep at once for a while.
func (s *Stack) noteShared(now int64) {
	s.counters.shared.Add(1)
	if s.policy == nil || !s.lock.TryLock() {
		return
	}
	s.enterAt(now)
	s.policy.shared(now)
	s.sharedUntil.Store(s.policy.sharedUntil)
	_ = s.setSeat() // where it fails nobody sits
	s.leave()
}

// schedYield is sched_yield(2). The runtime may give our P to another thread
// meanwhile.
func schedYield() { _, _, _ = unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
