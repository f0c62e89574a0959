package afxdp

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver/afxdp/affinity"
)

// Advice says how the interrupts of the queues, their processors and the NIC's node
// would suit this process better, one line for each matter. spins says that
// goroutines poll before they sleep. Advice asks the kernel each time. It is nil
// for virtual links, and where sysfs is that of another network namespace.
func (d *Device) Advice(spins bool) []string {
	if n, err := readNumber(filepath.Join(napiDirs.sysfs, d.name, "ifindex")); err != nil || n != uint64(d.index) {
		return nil
	}
	f := affinity.Facts{Interface: d.name, Receive: d.receive, RSS: d.caps.RSSTable, Spins: spins, Process: ownCPUs()}
	irqs := map[int]int{}
	// Facts that cannot be asked for are looked for by name.
	_ = d.inNS(func() error {
		irqs = queueIRQs(d.index)
		l, err := lookupLink(fmt.Sprint(d.index))
		if err == nil { // queues and table may have changed since the start (ethtool -L, -X)
			f.Receive, f.RSS = l.rx, l.rssTable
		}
		return err
	})
	for _, q := range d.queues.all() {
		irq, ok := irqs[q.id]
		if !ok {
			irq = -1
		}
		f.Queues = append(f.Queues, affinity.Queue{ID: q.id, IRQ: irq})
	}
	if ok, err := f.Read("/"); !ok || err != nil {
		return nil
	}
	return f.Advise()
}

// ownCPUs are the processors that the process may use, of the first 1,024.
func ownCPUs() (l affinity.CPUs) {
	var set unix.CPUSet
	if unix.SchedGetaffinity(os.Getpid(), &set) != nil {
		return nil
	}
	for c := range 64 * len(set) {
		if set.IsSet(c) {
			l = append(l, c)
		}
	}
	return l
}
