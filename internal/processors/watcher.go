package processors

import (
	"bytes"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/cgroup"
)

// Watcher reads Views again and again. It keeps the files open, so that one
// costs a pread each, and no allocation. It belongs to one goroutine at a time.
type Watcher struct {
	root       string // "", or a test's directory that stands for /
	membership file   // /proc/self/cgroup
	load       file   // /proc/loadavg
	known      []byte // membership when levels were found
	levels     []level
	pressure   file
	cpus       unix.CPUSetDynamic
	buf        []byte
	threads    threads
}

// Watch opens the files. A Watcher follows the process when it is moved to
// another cgroup; of cgroup filesystems that are mounted later it learns only
// then.
func Watch() *Watcher { return watch("") }

func watch(root string) *Watcher {
	w := &Watcher{
		root:       root,
		membership: open(root + "/proc/self/cgroup"),
		load:       open(root + "/proc/loadavg"),
		pressure:   noFile,
		cpus:       unix.NewCPUSet(1024),
		buf:        make([]byte, 4096),
		threads:    threads{dir: noFile},
	}
	w.locate(w.membership.read(&w.buf))
	return w
}

// Close closes the files.
func (w *Watcher) Close() {
	w.membership.close()
	w.load.close()
	w.leave()
	w.threads.close()
}

func (w *Watcher) leave() {
	for _, l := range w.levels {
		l.close()
	}
	w.levels = w.levels[:0]
	w.pressure.close()
}

// locate opens the files of the cgroup that membership names.
func (w *Watcher) locate(membership []byte) {
	w.known = append(w.known[:0], membership...)
	w.leave()
	mountinfo, _ := os.ReadFile(w.root + "/proc/self/mountinfo")
	own := cgroup.ParseMembership(membership)
	mounts := cgroup.ParseMounts(mountinfo)
	for _, dir := range cgroup.Dirs(w.root, mounts, own, "cpu") {
		w.levels = append(w.levels, openLevel(dir))
	}
	w.pressure = noFile
	if dirs := cgroup.Unified(w.root, mounts, own); dirs != nil {
		w.pressure = open(dirs[0] + "/cpu.pressure")
	}
	if w.pressure == noFile {
		w.pressure = open(w.root + "/proc/pressure/cpu")
	}
}

// View takes a snapshot. It costs 9.5 us (BenchmarkView) with one cgroup to
// look at, of which the check that the process has not been moved is 3, and 1
// to 2 us for each cgroup more: once in 10 ms that is a thousandth of a processor.
func (w *Watcher) View() View {
	if now := w.membership.read(&w.buf); !bytes.Equal(now, w.known) {
		w.locate(now)
	}
	v := View{Usable: w.usable(), Pressure: -1, Preempted: preempted(), Runnable: -1}
	for i := range w.levels {
		quota, period, ok := w.levels[i].limit(&w.buf)
		if !ok {
			continue
		}
		if share := float64(quota) / float64(period); v.Quota == 0 || share < v.Quota {
			v.Quota, v.Period = share, time.Duration(period)*time.Microsecond
		}
		t := parseStat(w.levels[i].stat.read(&w.buf))
		v.Throttled.Periods += t.Periods
		v.Throttled.Throttled += t.Throttled
		v.Throttled.Time += t.Time
	}
	if p, ok := parsePressure(w.pressure.read(&w.buf)); ok {
		v.Pressure = p
	}
	if n, ok := parseLoad(w.load.read(&w.buf)); ok {
		v.Runnable = n
	}
	return v
}

func (w *Watcher) usable() int {
	for {
		err := unix.SchedGetaffinityDynamic(os.Getpid(), w.cpus)
		if err == nil {
			return w.cpus.Count()
		}
		if err != unix.EINVAL || len(w.cpus) > 1<<12 {
			return runtime.NumCPU()
		}
		w.cpus = unix.NewCPUSet(2 * len(w.cpus) * 64) // the kernel's is longer
	}
}

func preempted() int64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return -1
	}
	return int64(u.Nivcsw)
}
