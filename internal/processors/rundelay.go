package processors

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// maxThreads bounds the files that RunDelay keeps open.
const maxThreads = 256

// threads are the process's.
type threads struct {
	dir  file // /proc/self/task
	open []thread
	gone time.Duration // delay of those that ended
}

type thread struct {
	id    string
	stat  file
	delay time.Duration // when last read
}

// RunDelay is how long threads of the process have waited on run queues, added
// up over those that live and those that ended while the Watcher looked. It is
// not ok where the kernel does not say (no CONFIG_SCHED_INFO) or the process
// has more than 256 threads.
//
// The kernel has no such sum: /proc/self/schedstat is the main thread's alone.
// So this costs an fstat and a pread of 0.75 us for each thread, and an open
// file each; see BenchmarkRunDelay. View.Preempted is the cheap, coarse
// sign: one system call for all threads.
func (w *Watcher) RunDelay() (total time.Duration, ok bool) {
	t := &w.threads
	if t.dir == noFile {
		t.dir = open(w.root + "/proc/self/task")
	}
	for range 3 { // a thread may end between the listing and the reading
		if t.listed() && t.read(&w.buf) {
			total = t.gone
			for i := range t.open {
				total += t.open[i].delay
			}
			return total, true
		}
		if !t.list(w.root+"/proc/self/task", &w.buf) {
			break
		}
	}
	return 0, false
}

// listed reports whether there are as many threads as were listed, which is
// the link count of the directory less 2.
func (t *threads) listed() bool {
	var st unix.Stat_t
	return t.dir != noFile && unix.Fstat(int(t.dir), &st) == nil && int(st.Nlink) == len(t.open)+2
}

// read reports whether all threads that were listed could be read. One that
// has ended meanwhile cannot.
func (t *threads) read(buf *[]byte) bool {
	for i := range t.open {
		delay, ok := parseDelay(t.open[i].stat.read(buf))
		if !ok {
			return false
		}
		t.open[i].delay = delay
	}
	return true
}

// list opens the files of new threads and closes those of ended ones.
func (t *threads) list(dir string, buf *[]byte) bool {
	d, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil || len(names) == 0 || len(names) > maxThreads {
		return false
	}
	before := make(map[string]thread, len(t.open))
	for _, old := range t.open {
		// The kernel may have reused the identifier. Then the old file reads no
		// more.
		if delay, ok := parseDelay(old.stat.read(buf)); ok {
			old.delay = delay
			before[old.id] = old
			continue
		}
		t.end(old)
	}
	t.open = t.open[:0]
	for _, id := range names {
		th, ok := before[id]
		if !ok {
			th = thread{id: id, stat: open(dir + "/" + id + "/schedstat")}
		}
		delete(before, id)
		if th.stat != noFile {
			t.open = append(t.open, th)
		}
	}
	for _, old := range before {
		t.end(old)
	}
	return len(t.open) > 0
}

func (t *threads) end(old thread) {
	t.gone += old.delay
	old.stat.close()
}

func (t *threads) close() {
	for i := range t.open {
		t.open[i].stat.close()
	}
	t.open = nil
	t.dir.close()
}
