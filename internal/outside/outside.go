// Package outside runs functions outside of testing/synctest bubbles. Channels, timers
// and goroutines that are made within a bubble belong to it: others may not touch them,
// time is not the real one, and the bubble does not end before the goroutines do. What
// a stack or an engine makes has to serve the whole process.
package outside

import (
	"runtime"
	"sync"
	"time"
)

// Bubbled reports whether now, which time.Now has just returned, is a bubble's: there
// the time has no monotonic part (runtime.time_now).
func Bubbled(now time.Time) bool { return now == now.Round(0) }

// Do calls f and returns when it has returned. If the caller is in a bubble, f runs on
// a goroutine outside; blocking is then not durable, as in a system call.
func Do(f func()) {
	if Bubbled(time.Now()) {
		elsewhere(f)
		return
	}
	f()
}

// Go is `go f()`, with a goroutine outside of any bubble.
func Go(f func()) { Do(func() { go f() }) }

// call is a function that is to run outside. Its mutex is unlocked when it has: unlike
// channels and conditions, mutexes belong to no bubble.
type call struct {
	f    func()
	done sync.Mutex
}

func elsewhere(f func()) {
	open.Do(begin)
	c := &call{f: f}
	c.done.Lock()
	calls <- c
	c.done.Lock()
}

var (
	open  sync.Once
	calls = make(chan *call)
)

// begin starts the goroutine outside. A cleanup is run there by the runtime
// (testing/synctest, "Isolation"); it is the only way out that has no file descriptor.
func begin() {
	var serving sync.Mutex
	serving.Lock()
	runtime.AddCleanup(new(*int), func(begun *sync.Mutex) {
		go serve()
		begun.Unlock()
	}, &serving)
	runtime.GC() // after which the cleanup is due
	serving.Lock()
}

// serve gives each call a goroutine: one may wait for a lock that the caller of another
// holds.
func serve() {
	for c := range calls {
		go func() {
			c.f()
			c.done.Unlock()
		}()
	}
}
