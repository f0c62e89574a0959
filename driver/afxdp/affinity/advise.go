package affinity

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Advise returns one line for each thing that could be better: how it is, and
// what to do about it.
func (f *Facts) Advise() []string {
	var a []string
	for _, part := range []func() []string{f.node, f.queues, f.crowded, f.rss, f.number} {
		a = append(a, part()...)
	}
	return a
}

// node is about memory: the NIC writes to that of its own node fastest.
func (f *Facts) node() []string {
	local, ok := f.Nodes[f.Node]
	if !ok || len(f.Nodes) < 2 || len(local) == 0 || len(f.Process) == 0 {
		return nil
	}
	switch {
	case !f.Process.meets(local):
		return []string{fmt.Sprintf("%s is on node %d (processors %v), but this process may use processors %v only, of other nodes: "+
			"run it with numactl --cpunodebind=%d --membind=%d", f.Interface, f.Node, local, f.Process, f.Node, f.Node)}
	case !f.Process.within(local):
		return []string{fmt.Sprintf("%s is on node %d (processors %v), and this process may use processors %v of other nodes too: "+
			"run it with numactl --cpunodebind=%d --membind=%d", f.Interface, f.Node, local, f.Process.without(local), f.Node, f.Node)}
	}
	return nil
}

// queues is about where interrupts run. Interrupts are best kept away from a
// goroutine that spins; a goroutine that sleeps is woken fastest on its own
// processor.
func (f *Facts) queues() (a []string) {
	if len(f.Online) == 1 {
		return nil
	}
	for _, q := range f.Queues {
		if q.IRQ < 0 || len(q.CPUs) == 0 {
			continue
		}
		on := fmt.Sprintf("queue %d of %s: its interrupt %d is on %v", q.ID, f.Interface, q.IRQ, name(q.CPUs))
		if local, ok := f.Nodes[f.Node]; ok && len(f.Nodes) > 1 && len(local) > 0 && !q.CPUs.meets(local) {
			a = append(a, fmt.Sprintf("%s, of another node than the device: write %v to /proc/irq/%d/smp_affinity_list", on, local, q.IRQ))
			continue
		}
		mine := q.CPUs.meets(f.Process)
		switch {
		case f.Spins && mine:
			if rest := f.near(f.Online.without(f.Process)); len(rest) > 0 {
				a = append(a, fmt.Sprintf("%s, where goroutines of this process spin: write %v, which it does not use, to /proc/irq/%d/smp_affinity_list", on, rest, q.IRQ))
			} else {
				a = append(a, fmt.Sprintf("%s, where goroutines of this process spin: keep the process off it (taskset), "+
					"or hold interrupts back (ONLOAD_NAPI=defer)", on))
			}
		case !f.Spins && !mine && len(f.Process) > 0:
			a = append(a, fmt.Sprintf("%s, which this process may not use: each packet wakes another processor; write %v to /proc/irq/%d/smp_affinity_list", on, f.near(f.Process), q.IRQ))
		}
	}
	return a
}

// near returns the processors of l on the device's node, or all of them if none is
// there.
func (f *Facts) near(l CPUs) CPUs {
	if local := l.without(l.without(f.Nodes[f.Node])); len(local) > 0 {
		return local
	}
	return l
}

func name(l CPUs) string {
	if len(l) == 1 {
		return fmt.Sprintf("processor %v", l)
	}
	return fmt.Sprintf("processors %v", l)
}

// crowded is about queues whose interrupts can only run on the same processor.
func (f *Facts) crowded() (a []string) {
	on := map[int][]string{}
	for _, q := range f.Queues {
		if len(q.CPUs) == 1 {
			on[q.CPUs[0]] = append(on[q.CPUs[0]], fmt.Sprint(q.ID))
		}
	}
	for _, cpu := range slices.Sorted(maps.Keys(on)) {
		if ids := on[cpu]; len(ids) > 1 && len(f.Online) > 1 {
			a = append(a, fmt.Sprintf("queues %s of %s have their interrupts on processor %d together: spread them over /proc/irq/*/smp_affinity_list",
				strings.Join(ids, ", "), f.Interface, cpu))
		}
	}
	return a
}

// rss is about the queues that the NIC spreads flows over.
func (f *Facts) rss() (a []string) {
	if len(f.RSS) == 0 {
		return nil
	}
	var foreign, idle CPUs // numbers of queues, which are written alike
	taken := map[int]bool{}
	for _, q := range f.Queues {
		taken[q.ID] = true
		if !slices.Contains(f.RSS, uint32(q.ID)) {
			idle = append(idle, q.ID)
		}
	}
	for _, q := range slices.Compact(slices.Sorted(slices.Values(f.RSS))) {
		if !taken[int(q)] {
			foreign = append(foreign, int(q))
		}
	}
	if len(foreign) > 0 {
		a = append(a, fmt.Sprintf("%s spreads flows over queues %v too, which were not taken: what comes in there is not accelerated; "+
			"take them, or keep flows off them (ethtool -X %s equal N)", f.Interface, foreign, f.Interface))
	}
	if len(idle) > 0 {
		a = append(a, fmt.Sprintf("queues %v of %s were taken, but its RSS table sends no flow there", idle, f.Interface))
	}
	return a
}

// number is about queues that nobody has a processor for.
func (f *Facts) number() []string {
	if n := len(f.Process); n > 0 && f.Receive > n && len(f.Queues) > n {
		return []string{fmt.Sprintf("%s has %d queues, and this process %d processors: fewer queues (ethtool -L %s combined %d) cost less to poll",
			f.Interface, f.Receive, n, f.Interface, n)}
	}
	return nil
}
