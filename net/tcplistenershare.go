package onload

import (
	"net"
	"sync/atomic"
	"time"

	"github.com/onload-go/onload/internal/outside"
)

// descriptorTaken is why the kernel carries a socket whose File was called.
const descriptorTaken = "the program took its descriptor (File)"

// sharedListener is what a TCPListener knows of others that may accept with the kernel's
// socket. Clients that they are to have wait in the kernel's queue: what the pump takes
// from there only this listener's Accept returns. So where the socket was given away the
// pump takes a client for each Accept that waits, and none ahead.
type sharedListener struct {
	lent  atomic.Bool // others may have the socket
	given atomic.Bool // new clients are the kernel's (File)

	accepting atomic.Int32  // calls of Accept that wait
	asked     chan struct{} // one of them has come since given
	taking    chan struct{} // full while the pump takes a client
	closed    atomic.Bool   // Close has been called, where lent
}

// enter and leave are called before and after Accept waits.
func (s *sharedListener) enter() {
	s.accepting.Add(1)
	if s.given.Load() {
		s.ask()
	}
}

func (s *sharedListener) leave(k *net.TCPListener) {
	if s.accepting.Add(-1) == 0 && s.given.Load() {
		s.interrupt(k)
	}
}

// interrupt has the pump take no client for nobody. It waits until that is so, but not
// for long: a process that has the socket may have made it a blocking one.
func (s *sharedListener) interrupt(k *net.TCPListener) {
	_ = k.SetDeadline(time.Unix(1, 0))
	select {
	case s.taking <- struct{}{}:
		<-s.taking
		return
	default:
	}
	late := time.NewTimer(10 * time.Millisecond)
	defer late.Stop()
	select {
	case s.taking <- struct{}{}:
		<-s.taking
	case <-late.C:
	}
}

func (s *sharedListener) ask() {
	select {
	case s.asked <- struct{}{}:
	default:
	}
}

// give leaves new clients to the kernel.
func (s *sharedListener) give(l *TCPListener) {
	s.lent.Store(true)
	if !s.given.CompareAndSwap(false, true) {
		return
	}
	l.on.Finish()
	s.interrupt(l.k)
	s.ask()
}

// wants waits until the pump is to take a client from the kernel. It returns false if
// the listener closes before.
func (s *sharedListener) wants(l *TCPListener) bool {
	for s.given.Load() {
		_ = l.k.SetDeadline(time.Time{})
		if s.accepting.Load() > 0 { // looked at after the deadline: leave sets it last
			return true
		}
		select {
		case <-s.asked:
		case <-l.done:
			return false
		}
	}
	return true
}

// lastClients is how long Accept returns clients that came before Close, where others
// serve those that come after it. A handshake that has begun takes a round trip.
const lastClients = time.Second

// closeShared is Close of a listener whose kernel socket others may have: nobody is lost
// who came before. Accept goes on until all of them were accepted.
func (l *TCPListener) closeShared() error {
	if !l.share.closed.CompareAndSwap(false, true) {
		return net.ErrClosed
	}
	l.on.Finish()
	l.end()
	if !l.on.Busy() {
		return l.close()
	}
	outside.Do(func() {
		go func() {
			for end := time.Now().Add(lastClients); l.on.Busy() && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
			_ = l.close()
		}()
	})
	return nil
}
