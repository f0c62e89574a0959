package stack

import (
	"runtime"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// sharing finds out during a spin whether another thread wants the processor.
//
// Two things show it. The first is a sched_yield(2) that takes long. The yield
// also lets a thread run that would otherwise wait for the tick, 4 ms, because
// the kernel does not let it preempt the spinner. But it reaches threads of the
// same cgroup and session only. The second, for all others, is a gap between two
// looks at the clock. An interrupt or a thread of the runtime causes one too; the
// processor time that the process has used tells them apart.
type sharing struct {
	next   int64 // when to yield
	looked int64 // when the clock was last looked at, 0: not comparable
	base   int64 // processor time used when the clock showed since, -1: unknown
	since  int64

	spun  int64 // ns that are looked at together
	lost  int64 // of that to others
	times int   // how often

	several atomic.Bool // the process may run on several processors
	off     bool        // spins do not yield the processor; does not change
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

	// A processor is shared if others take a quarter of the spinning, or two
	// milliseconds at once. The kernel's threads take less, and a hypervisor takes up
	// to a millisecond now and then. With several processors only the milliseconds
	// count: the kernel wakes the other end, and threads of our own, on this
	// processor as often as on the other one. They run while we yield, and none
	// waits for long. Trials show whether that pays.
	sharedShare  = 4
	sharedAtOnce = int64(2_000_000)
	// sharedLook is the amount of spinning that is judged together, in ns, and
	// sharedTimes how often others must have run in that time.
	sharedLook  = int64(2_000_000)
	sharedTimes = 3
)

// begin begins a spin.
func (h *sharing) begin(now int64) {
	h.next, h.looked, h.base = now+courtesyFirst, 0, -1
	if h.off {
		h.next = never
	}
}

// yield lets another thread run, and reports whether the processor is shared.
func (h *sharing) yield() bool {
	h.base, h.since = usedTime(), nanotime()
	schedYield()
	after := nanotime()
	h.next, h.looked = after+courtesyEvery, after
	return after-h.since > yieldAlone && h.lose(after)
}

// look reports whether the processor is shared; now was just read.
func (h *sharing) look(now int64) bool {
	gap := now - h.looked
	fresh := h.looked != 0
	h.looked = now
	return fresh && gap > gapAlone && h.base >= 0 && h.lose(now)
}

// lose counts the time that others took of the processor since the base.
func (h *sharing) lose(now int64) bool {
	used := usedTime()
	d := max(now-h.since-(used-h.base), 0)
	h.base, h.since = used, now
	h.lost += d
	if d > yieldAlone {
		h.times++
	}
	return d >= sharedAtOnce
}

// end ends a spin of so many ns, and reports whether the processor is shared.
func (h *sharing) end(spun int64) bool {
	if h.spun += spun; h.spun < sharedLook && h.lost < sharedLook {
		return false
	}
	shared := h.lost*sharedShare >= h.spun && h.times >= sharedTimes && !h.several.Load()
	h.spun, h.lost, h.times = 0, 0, 0
	return shared
}

// learn notes how many processors the process may use.
func (h *sharing) learn(usable int) {
	if several := min(usable, runtime.GOMAXPROCS(0)) > 1; several != h.several.Load() {
		h.several.Store(several)
	}
}

// usedTime returns the processor time, in ns, that the process has used; if it may
// use several processors at once, that of the thread.
func usedTime() int64 {
	clock := int32(unix.CLOCK_PROCESS_CPUTIME_ID)
	if runtime.GOMAXPROCS(0) > 1 {
		clock = unix.CLOCK_THREAD_CPUTIME_ID
	}
	return processorClock(clock)
}

// noteShared makes waits sleep at once for a while.
func (s *Stack) noteShared(now int64) {
	s.counters.shared.Add(1)
	if s.waits.policy == nil || !s.tryBeginAt(now) {
		return
	}
	s.waits.policy.shared(now)
	s.waits.sharedUntil.Store(s.waits.policy.sharedUntil)
	_ = s.setSeat() // if it fails nobody sits
	s.end()
}

// schedYield is sched_yield(2). The runtime may give our P to another thread
// meanwhile.
func schedYield() { _, _, _ = unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }
