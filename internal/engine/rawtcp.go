package engine

import (
	"io"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/onload-go/onload/internal/stack"
)

// Broken notes that the error which broke a connection has been returned.
type Broken struct{ told atomic.Bool }

// TellOnce returns err, which broke the connection, to the first caller that meets
// it, and the error then to later ones, as the kernel does (sk_err).
func (b *Broken) TellOnce(err, then error) error {
	if _, ok := err.(syscall.Errno); ok && err != syscall.EPIPE && b.told.Swap(true) {
		return then
	}
	return err
}

// RawTCP is the RawConn of an accelerated connection, but for Control (TCPShadow) and
// net's words for errors. No descriptor carries its bytes, so Read and Write give a
// Unix socket for the time of the call, with what the connection has: system calls
// find data, the end and a reset there as on TCP's. Connection pools ask so whether a
// connection is alive.
type RawTCP struct {
	Conn   *stack.TCPConn
	Broken *Broken
	// Rest is called with what f wrote and Conn, which failed by err, has not taken. It
	// returns nil if the next carrier has. nil: there is none.
	Rest func(p []byte, err error) error
}

// Read implements syscall.RawConn.
func (r RawTCP) Read(f func(fd uintptr) bool) error {
	return r.Conn.Inspect(func(data []byte, end error) (read int, done bool, err error) {
		if end == nil && len(data) == 0 {
			w, err := idle.get(newWindow)
			return 0, err == nil && f(uintptr(w.near)), err
		}
		if end, err = r.untold(end); err != nil {
			return 0, false, err
		}
		w, err := newWindow(end)
		if err != nil {
			return 0, false, err
		}
		defer w.close()
		shown := w.show(data)
		done = f(uintptr(w.near))
		if end == syscall.ECONNRESET && w.sawReset() {
			r.Broken.told.Store(true)
		}
		return shown - w.unread(), done, nil
	})
}

// Write implements syscall.RawConn. The connection has taken what f wrote when it
// returns.
func (r RawTCP) Write(f func(fd uintptr) bool) error {
	for {
		err := r.Conn.MayWrite()
		if err != nil {
			err = r.Broken.TellOnce(err, syscall.EPIPE)
		}
		var done, wrote bool
		if err == nil || err == syscall.EPIPE {
			done, wrote, err = r.offer(f, err)
		}
		if err == nil && !done && !wrote {
			err = r.Conn.AwaitEnd() // there is room, so no more comes
		}
		if done || err != nil {
			return err
		}
	}
}

// offer has f write to a window, and writes that to the connection. end is nil, or
// EPIPE, which f is to find.
func (r RawTCP) offer(f func(fd uintptr) bool, end error) (done, wrote bool, err error) {
	w, err := newWindow(end)
	if err != nil {
		return false, false, err
	}
	defer w.close()
	done = f(uintptr(w.near))
	p, err := w.written()
	if err == nil && len(p) > 0 {
		n, err := r.Conn.Write(p)
		if err != nil && r.Rest != nil {
			err = r.Rest(p[n:], err)
		}
		if err != nil {
			err = r.Broken.TellOnce(err, syscall.EPIPE)
		}
		return done, true, err
	}
	return done, false, err
}

// untold is what f is to find where the connection has ended: an error is found
// once, as TellOnce has it. Those that a Unix socket cannot have are Read's own.
func (r RawTCP) untold(end error) (error, error) {
	if _, ok := end.(syscall.Errno); !ok {
		return end, nil
	}
	if end == syscall.ECONNRESET && !r.Broken.told.Load() {
		return end, nil
	}
	if end = r.Broken.TellOnce(end, io.EOF); end == io.EOF {
		return end, nil
	}
	return nil, end
}

// idle is a window in which nothing ever arrives, and which all connections share.
var idle sharedWindow

// sharedWindow is opened once. A failure is not kept: descriptors that are short
// now (EMFILE) may be had later.
type sharedWindow struct {
	mu sync.Mutex
	w  *window
}

// get returns the window, which the first call that can opens.
func (s *sharedWindow) get(open func(end error) (*window, error)) (w *window, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.w == nil {
		s.w, err = open(nil)
	}
	return s.w, err
}
