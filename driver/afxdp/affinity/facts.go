// Package affinity says which processors the interrupts of a NIC's queues run
// on, and what could be better for the process that reads them.
package affinity

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Facts describes a NIC and its process, as far as advice depends on it.
type Facts struct {
	Interface string
	Queues    []Queue  // those that the process took, by number
	Receive   int      // receive queues that the interface has in use
	RSS       []uint32 // indirection table; empty where unknown

	Process CPUs // that the process may use
	Online  CPUs
	Node    int          // of the device, -1: not told, or there is one only
	Nodes   map[int]CPUs // processors of each node

	Spins bool // goroutines poll, at least for a while, before they sleep
}

// Queue is a queue and its interrupt.
type Queue struct {
	ID   int
	IRQ  int  // -1: unknown
	CPUs CPUs // on which the interrupt may run
}

// Read fills in what the kernel says below root, which is "/" except in tests:
// Online, Node, Nodes, and for each of Queues the interrupt, unless IRQ has it
// already, and its processors. ok is false for interfaces without a device, which
// have no interrupts.
func (f *Facts) Read(root string) (ok bool, err error) {
	device := filepath.Join(root, "sys/class/net", f.Interface, "device")
	if _, err := os.Stat(device); err != nil {
		return false, nil
	}
	var errs []error
	cpus := func(name string) CPUs {
		b, err := os.ReadFile(name)
		if err != nil {
			errs = append(errs, err)
			return nil
		}
		l, err := ParseCPUs(string(b))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		return l
	}
	f.Online = cpus(filepath.Join(root, "sys/devices/system/cpu/online"))
	f.Node = -1
	if b, err := os.ReadFile(filepath.Join(device, "numa_node")); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			f.Node = n
		}
	}
	nodes, _ := filepath.Glob(filepath.Join(root, "sys/devices/system/node/node[0-9]*"))
	f.Nodes = map[int]CPUs{}
	for _, n := range nodes {
		if id, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(n), "node")); err == nil {
			f.Nodes[id] = cpus(filepath.Join(n, "cpulist"))
		}
	}
	f.interrupts(root, device)
	for i := range f.Queues {
		if q := &f.Queues[i]; q.IRQ >= 0 {
			q.CPUs = irqCPUs(root, q.IRQ)
		}
	}
	return true, errors.Join(errs...)
}

// interrupts finds the interrupts that are not known yet, by name, among those of
// the device; a virtio device has its parent's.
func (f *Facts) interrupts(root string, device string) {
	own := map[int]bool{}
	for _, dir := range []string{"msi_irqs", "../msi_irqs"} {
		// Not filepath.Join: device is a symbolic link, of which ".." is elsewhere.
		entries, _ := os.ReadDir(device + "/" + dir)
		for _, e := range entries {
			if n, err := strconv.Atoi(e.Name()); err == nil {
				own[n] = true
			}
		}
	}
	b, err := os.ReadFile(filepath.Join(root, "proc/interrupts"))
	if err != nil {
		return
	}
	for _, in := range ParseInterrupts(string(b)) {
		id, ok := in.queue()
		if !ok || !own[in.IRQ] && !strings.Contains(in.Name, f.Interface+"-") {
			continue
		}
		for i := range f.Queues {
			if q := &f.Queues[i]; q.ID == id && q.IRQ < 0 {
				q.IRQ = in.IRQ
			}
		}
	}
}

// irqCPUs returns the processor that an interrupt runs on. If the kernel does not
// say, it returns those that the interrupt may run on.
func irqCPUs(root string, irq int) CPUs {
	for _, file := range []string{"effective_affinity_list", "smp_affinity_list"} {
		b, err := os.ReadFile(filepath.Join(root, "proc/irq", strconv.Itoa(irq), file))
		if err != nil {
			continue
		}
		if l, err := ParseCPUs(string(b)); err == nil && len(l) > 0 {
			return l
		}
	}
	return nil
}
