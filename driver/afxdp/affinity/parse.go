package affinity

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxCPU bounds the processors that a list may name: the kernel's largest
// NR_CPUS.
const maxCPU = 8192

// CPUs is a sorted list of processors.
type CPUs []int

// ParseCPUs reads a list as the kernel writes it: "0-3,8,10-11".
func ParseCPUs(s string) (CPUs, error) {
	var l CPUs
	s = strings.TrimSpace(s)
	if s == "" {
		return l, nil
	}
	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		a, err1 := strconv.ParseUint(from, 10, 32)
		b, err2 := strconv.ParseUint(to, 10, 32)
		if err1 != nil || err2 != nil || b < a || b >= maxCPU {
			return nil, fmt.Errorf("list of processors %q", s)
		}
		for c := a; c <= b; c++ {
			l = append(l, int(c))
		}
	}
	slices.Sort(l)
	return slices.Compact(l), nil
}

// String writes the list as the kernel does.
func (l CPUs) String() string {
	var b strings.Builder
	for i := 0; i < len(l); i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		from := i
		for i+1 < len(l) && l[i+1] == l[i]+1 {
			i++
		}
		b.WriteString(strconv.Itoa(l[from]))
		if i > from {
			fmt.Fprintf(&b, "-%d", l[i])
		}
	}
	return b.String()
}

// meets reports whether l and o have a processor in common.
func (l CPUs) meets(o CPUs) bool {
	return slices.ContainsFunc(l, func(c int) bool { return slices.Contains(o, c) })
}

// within reports whether all of l are in o.
func (l CPUs) within(o CPUs) bool {
	return !slices.ContainsFunc(l, func(c int) bool { return !slices.Contains(o, c) })
}

// without returns the processors of l that are not in o.
func (l CPUs) without(o CPUs) (rest CPUs) {
	for _, c := range l {
		if !slices.Contains(o, c) {
			rest = append(rest, c)
		}
	}
	return rest
}

// An Interrupt is a line of /proc/interrupts.
type Interrupt struct {
	IRQ  int
	Name string // what its driver calls it, the last word of the line
}

// ParseInterrupts reads /proc/interrupts, and leaves out interrupts without a
// number, which are the processors' own.
func ParseInterrupts(text string) (l []Interrupt) {
	for line := range strings.Lines(text) {
		number, rest, ok := strings.Cut(line, ":")
		irq, err := strconv.ParseUint(strings.TrimSpace(number), 10, 31)
		words := strings.Fields(rest)
		if !ok || err != nil || len(words) == 0 {
			continue
		}
		l = append(l, Interrupt{int(irq), words[len(words)-1]})
	}
	return l
}

// queue returns the receive queue that a NIC's interrupt is for, by its name.
// Drivers name interrupts in different ways, but all put the number at the end,
// or before the '@' of a bus address.
//
//	eth0-TxRx-3 ice-eth0-TxRx-3 i40e-eth0-TxRx-3 eth0-Tx-Rx-3 eth0-rx-3
//	mlx5_comp3@pci:0000:81:00.0 gve-ntfy-blk3@pci:0000:00:04.0 virtio2-input.3
func (i Interrupt) queue() (q int, ok bool) {
	name, _, _ := strings.Cut(strings.ToLower(i.Name), "@")
	digits := len(name) - len(strings.TrimRight(name, "0123456789"))
	kind := name[:len(name)-digits]
	n, err := strconv.ParseUint(name[len(name)-digits:], 10, 16)
	if err != nil {
		return 0, false
	}
	for _, mark := range []string{"rx", "comp", "input", "ntfy", "queue"} {
		if strings.Contains(kind, mark) {
			return int(n), true
		}
	}
	return 0, false
}
