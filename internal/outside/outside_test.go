package outside

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
)

// TestDo: within a bubble what a function makes is the process's.
func TestDo(t *testing.T) {
	if Bubbled(time.Now()) {
		t.Fatal("the test is not in a bubble")
	}
	ours := 0
	Do(func() { ours++ })
	if ours != 1 {
		t.Fatal("a function outside of bubbles was not called")
	}
	fromOutside := make(chan chan bool)
	go func() { (<-fromOutside) <- true }() // panics if the channel is the bubble's
	synctest.Test(t, func(t *testing.T) {
		if !Bubbled(time.Now()) {
			t.Fatal("the bubble is not seen")
		}
		var c chan bool
		for range 2 {
			Do(func() {
				c = make(chan bool, 1)
				if Bubbled(time.Now()) {
					t.Error("Do is in the bubble")
				}
			})
		}
		fromOutside <- c
		if !<-c {
			t.Error("the channel was closed")
		}
	})
}

// TestDoWaits: a function that waits for a lock does not keep others from running, whose
// callers may hold that lock.
func TestDoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lock sync.Mutex
		lock.Lock()
		begun, first := make(chan bool), make(chan bool)
		go func() {
			close(begun)
			Do(func() {
				lock.Lock()
				defer lock.Unlock()
			})
			close(first)
		}()
		<-begun
		for range 100 {
			Do(func() { time.Sleep(10 * time.Microsecond) }) // the other comes before one of these
		}
		lock.Unlock()
		<-first
	})
}

// TestGo: the bubble ends before the goroutine does.
func TestGo(t *testing.T) {
	stop, stopped := make(chan bool), make(chan bool)
	synctest.Test(t, func(t *testing.T) {
		Go(func() {
			<-stop
			close(stopped)
		})
	})
	close(stop)
	<-stopped
}
