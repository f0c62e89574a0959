package ring

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/onload-go/onload/internal/testlong"
)

// testSocket is what a socket is to the lock: pending is what its user asks
// for, done what the holder did.
type testSocket struct {
	work    Work
	pending atomic.Uint64
	done    uint64
}

// drain is the holder's way out.
func drain(l *Lock, do func(*Work)) {
	for {
		l.Take(do)
		if l.TryUnlock() {
			return
		}
	}
}

// lockTorture lets goroutines leave work, take the lock and wait for it, and
// checks that the holder is alone and that no work is lost.
func lockTorture(t *testing.T, users, rounds int) {
	l := NewLock()
	var inside atomic.Int32
	holding := 0 // guarded by the lock
	enter := func() {
		if inside.Add(1) != 1 {
			t.Error("two holders")
		}
		holding++
	}
	leave := func() { inside.Add(-1) }
	// do is called by the holder between enter and leave.
	do := func(w *Work) {
		s := (*testSocket)(unsafe.Add(unsafe.Pointer(w), -int(unsafe.Offsetof(testSocket{}.work))))
		holding++
		s.done = s.pending.Load()
	}
	unlock := func() {
		for {
			l.Take(do)
			leave()
			if l.TryUnlock() {
				return
			}
			enter()
		}
	}
	socks := make([]testSocket, users)
	var wg sync.WaitGroup
	for i := range socks {
		s := &socks[i]
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := range rounds {
				s.pending.Add(1)
				if l.Defer(&s.work) {
					enter()
					do(&s.work)
					if n%7 == 0 {
						runtime.Gosched()
					}
					if n%11 == 0 {
						l.Post(&s.work)
						l.Post(&s.work)
					}
					unlock()
				}
				if n%13 == 0 && l.TryLock() {
					enter()
					unlock()
				}
				if n%31 == 0 {
					l.Lock()
					enter()
					unlock()
				}
			}
		}()
	}
	wg.Wait()
	if l.Held() {
		t.Fatal("left locked")
	}
	if l.waiters.Load() != 0 {
		t.Error("waiters left")
	}
	l.Lock()
	for i := range socks {
		s := &socks[i]
		if s.done != uint64(rounds) {
			t.Errorf("socket %d: %d of %d done: work was lost", i, s.done, rounds)
		}
		if s.work.queued.Load() {
			t.Errorf("socket %d: still marked as queued", i)
		}
	}
}

func tortureRounds() int {
	switch {
	case testing.Short():
		return 2000
	case testlong.Enabled():
		return 1_000_000
	}
	return 20000
}

func TestLockTorture(t *testing.T) { lockTorture(t, 8, tortureRounds()) }

func TestLockOneProcessor(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	lockTorture(t, 8, tortureRounds())
}

// Several goroutines share one Work, as the reader, the writer and the closer
// of one socket do.
func TestLockSharedWork(t *testing.T) {
	l := NewLock()
	var left atomic.Int64 // what the users have asked for and nobody did
	var did int64
	do := func(*Work) { did += left.Swap(0) }
	var w Work
	var wg sync.WaitGroup
	rounds := tortureRounds()
	for range 6 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range rounds {
				left.Add(1)
				if l.Defer(&w) {
					do(&w)
					drain(l, do)
				}
			}
		}()
	}
	wg.Wait()
	if did != int64(6*rounds) || left.Load() != 0 || l.Held() {
		t.Errorf("%d of %d done, %d left", did, 6*rounds, left.Load())
	}
}

// Take is oldest first, and what it does may leave work again.
func TestLockOrder(t *testing.T) {
	l := NewLock()
	l.Lock()
	var ws [5]Work
	for i := range ws {
		ws[i].Kind = uint8(i)
		if l.Defer(&ws[i]) {
			t.Fatal("Defer took a lock that is held")
		}
	}
	if l.TryUnlock() {
		t.Fatal("unlocked with work on the list")
	}
	if !l.HasWork() {
		t.Fatal("HasWork is false")
	}
	var got []int
	l.Take(func(w *Work) {
		got = append(got, int(w.Kind))
		if w == &ws[2] && len(got) < 5 {
			l.Post(w)
		}
	})
	l.Take(func(w *Work) { got = append(got, int(w.Kind)) })
	want := []int{0, 1, 2, 3, 4, 2}
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Fatalf("done in the order %v, want %v", got, want)
		}
	}
	if l.HasWork() || !l.TryUnlock() || l.Held() {
		t.Error("not unlocked")
	}
	if n := l.Deferred.Load(); n != 5 {
		t.Errorf("Deferred is %d", n)
	}
}

// Blocked lockers wake, all of them.
func TestLockWaiters(t *testing.T) {
	l := NewLock()
	for range 20 {
		l.Lock()
		var wg sync.WaitGroup
		n := 0
		for range 10 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				l.Lock()
				n++
				drain(l, func(*Work) {})
			}()
		}
		for l.waiters.Load() < 10 {
			runtime.Gosched()
		}
		drain(l, func(*Work) {})
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(time.Minute):
			t.Fatal("a blocked locker sleeps on")
		}
		if n != 10 {
			t.Fatalf("%d lockers", n)
		}
	}
	if l.Contended.Load() != 200 {
		t.Errorf("Contended is %d", l.Contended.Load())
	}
}

// A goroutine that takes the lock again at once does not keep others out.
func TestLockStarvation(t *testing.T) {
	l := NewLock()
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for !stop.Load() {
				if l.TryLock() {
					for range 1000 {
						_ = l.HasWork()
					}
					unlock(l)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		for range 20 {
			l.Lock()
			unlock(l)
		}
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Error("Lock starves beside a goroutine that polls")
	}
	stop.Store(true)
	wg.Wait()
}

// unlock unlocks, dropping work.
func unlock(l *Lock) {
	for !l.TryUnlock() {
		l.Take(func(*Work) {})
	}
}

func TestLockAllocs(t *testing.T) {
	l := NewLock()
	var w Work
	do := func(*Work) {}
	if n := testing.AllocsPerRun(1000, func() {
		l.Defer(&w)
		l.Defer(&w)
		l.Post(&w)
		drain(l, do)
		l.Lock()
		drain(l, do)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLockUncontended(b *testing.B) {
	l := NewLock()
	for b.Loop() {
		l.TryLock()
		l.TryUnlock()
	}
}

func BenchmarkLockDeferTake(b *testing.B) {
	l := NewLock()
	var w Work
	l.Lock()
	do := func(*Work) {}
	for b.Loop() {
		l.Defer(&w)
		l.Take(do)
	}
}

func BenchmarkLockContended(b *testing.B) {
	l := NewLock()
	do := func(*Work) {}
	b.RunParallel(func(pb *testing.PB) {
		var w Work
		for pb.Next() {
			if l.Defer(&w) {
				drain(l, do)
			}
		}
	})
}

// TestLockPassesOn: a goroutine that waits for the lock gets it, and the work that is
// left, from a holder whose work has no end.
func TestLockPassesOn(t *testing.T) {
	l := NewLock()
	l.Lock()
	var s testSocket
	did := 0
	do := func(*Work) { did++ } // the holder's
	left := make(chan int)
	go func() {
		l.Lock()
		was := did
		drain(l, do)
		left <- did - was
	}()
	for start := time.Now(); ; runtime.Gosched() {
		l.Post(&s.work)
		if l.TryUnlock() {
			break
		}
		l.Take(do)
		if time.Since(start) > time.Minute {
			t.Fatal("the lock is never given away")
		}
	}
	if n := <-left; n != 1 {
		t.Errorf("the next holder did %d pieces of work, want the one that was left", n)
	}
	if l.Held() {
		t.Error("the lock is held")
	}
}
