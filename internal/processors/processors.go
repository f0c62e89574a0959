// Package processors reports what this process may use of the machine's
// processors, and what it costs here to wake a sleeper: the facts by which a
// waiting policy decides between spinning and sleeping.
//
// A fact that cannot be read (no /proc, no cgroup mounted, a kernel without
// pressure stall information) is unknown, not an error: a policy has to go on
// without it.
package processors

import "time"

// View is a snapshot.
type View struct {
	// Usable counts the processors that the process's main thread may run on
	// (sched_getaffinity(2), which includes cpuset cgroups). Threads that were
	// pinned one by one may have others.
	Usable int

	// Quota is the tightest limit on the path from the process's cgroup to
	// the root, in processors: 0.5 is half of one, 2 is two. It is 0 where
	// there is none, or none that can be seen: a container sees its own limit,
	// not those of the cgroups that it is nested in.
	Quota float64

	// Period is how often the tightest limit's budget is refilled: a process
	// that has spent it sleeps for the rest of the period.
	Period time.Duration

	// Throttled adds up the limited cgroups on that path.
	Throttled Throttled

	// Pressure is the share of the last ten seconds, 0 to 1, in which some
	// task waited for a processor ("some avg10" of pressure stall
	// information): in the process's cgroup with cgroup v2, else on the whole
	// machine. The kernel computes it every two seconds. -1: unknown.
	Pressure float64

	// Preempted counts how often a thread of the process, living or ended,
	// lost its processor while it wanted to run on (ru_nivcsw of getrusage(2)):
	// another task had a claim, or it called sched_yield(2) and one was
	// waiting. -1: unknown.
	Preempted int64

	// Runnable counts the tasks of the whole machine that run or wait for a
	// processor now, this one included (/proc/loadavg; a container sees its
	// host's). -1: unknown.
	Runnable int
}

// Throttled are a cgroup's counters since it was made (cpu.stat).
type Throttled struct {
	Periods   uint64        // in which a task of it ran
	Throttled uint64        // of these, in which the budget did not suffice
	Time      time.Duration // that its run queues were held, added up over processors
}

// Processors is how much the process may use at once: the lesser of affinity
// and quota.
func (v View) Processors() float64 {
	if v.Quota > 0 {
		return min(v.Quota, float64(v.Usable))
	}
	return float64(v.Usable)
}

// Read takes one snapshot. It finds the process's cgroup and opens all files
// for it, which takes 110 us (BenchmarkRead).
func Read() View {
	w := Watch()
	defer w.Close()
	return w.View()
}
