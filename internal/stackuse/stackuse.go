// Package stackuse measures how much of its goroutine's stack a call uses. A
// goroutine that has just been started has 2 KiB, of which the runtime keeps
// 0.9, and each time that this is not enough the stack is copied, as dear as
// all else that a small Write does.
package stackuse

import (
	"runtime/debug"
	"slices"
	"unsafe"
)

const (
	room    = 16 << 10 // bytes that are looked at
	pattern = 0x5ca1ab1e0ddba115
	word    = 8
	// tries is how often fn is called. The median counts: occasionally the runtime
	// preempts a goroutine, and saves its registers on its stack.
	tries = 21
)

// Of returns how many bytes of stack fn uses, in its own frame and all that it
// calls, up to 16 KiB. Unless prepare is nil, it is called before each of several
// calls.
func Of(prepare, fn func()) int {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which may shrink stacks
	used := make(chan int)
	go func() {
		paint() // the stack grows now, so that it stays where it is
		var all []int
		for range tries {
			if prepare != nil {
				prepare()
			}
			all = append(all, once(fn))
		}
		slices.Sort(all)
		used <- all[tries/2]
	}()
	return <-used
}

// once paints what lies below its frame, calls fn and returns how far down the
// paint is gone.
//
//go:noinline
func once(fn func()) int {
	var here uint64
	paint()
	fn()
	for n := room; n > 0; n -= word {
		if *(*uint64)(unsafe.Add(unsafe.Pointer(&here), -n)) != pattern {
			return n
		}
	}
	return 0
}

// paint fills the stack below its caller with the pattern, and leaves it there.
//
//go:noinline
func paint() uint64 {
	var a [room / word]uint64
	for i := range a {
		*(*uint64)(unsafe.Add(unsafe.Pointer(&a), i*word)) = pattern
	}
	return a[0]
}
