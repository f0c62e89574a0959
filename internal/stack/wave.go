package stack

import (
	"runtime"

	"github.com/onload-go/onload/driver"
)

// Where many connections are active, packets are taken from the rings in waves. A
// poll turn ends when waveWakes goroutines for each P are to be woken, and the next
// begins when those that could run have run. Otherwise a server would read all its
// requests before it answers the first, while the client waits; then the server
// would wait while the client reads all answers.
const waveWakes = 4

// waveOf returns how many goroutines a poll turn of this process wakes.
func waveOf() int { return waveWakes * runtime.GOMAXPROCS(0) }

// receive takes packets from queue i until nothing is there, the wave is full or
// the turn has taken rxBatch Descs of it. It returns their number.
func (s *Stack) receive(i int, q driver.Queue) (n int) {
	most := waveWakes
	for n < rxBatch {
		wakes := len(s.turn.wakes)
		k := q.RxBatch(s.rx.batch[:most])
		if k == 0 {
			if n > 0 || most == rxBatch {
				return n
			}
			most = rxBatch // a packet of many Descs, or none
			continue
		}
		if s.taps == nil {
			s.input(i, s.rx.batch[:k])
		} else {
			s.inputTapped(i, s.rx.batch[:k])
		}
		n += k
		if len(s.turn.wakes) >= s.rx.wave {
			break
		}
		if len(s.turn.wakes) == wakes {
			most = min(2*most, rxBatch)
		}
	}
	return n
}

// giveWay lets the goroutines run that the caller woke. They run on this
// processor, instead of waiting for another to be woken by an interrupt.
func (s *Stack) giveWay() {
	s.waits.away.Store(true)
	runtime.Gosched()
	s.waits.away.Store(false)
	s.kickDeferred()
}

// letOthersFinish is called by a goroutine that is about to take packets. If
// another has given way and has not run since, this one gives way too, and true is
// returned. Go runs woken goroutines before those that have yielded. So packets
// that keep coming would hold up goroutines that have yielded before they answer,
// as grpc-go's writers do. With several Ps another one runs those.
func (s *Stack) letOthersFinish() bool {
	if !s.waits.away.Load() || s.rx.wave > waveWakes {
		return false
	}
	s.giveWay()
	return true
}
