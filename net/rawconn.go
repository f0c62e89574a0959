package onload

import (
	"io"
	"net"
	"sync"
	"syscall"
)

// rawConn is the RawConn of an accelerated connection. No descriptor carries its
// bytes, so Read and Write give a Unix socket for the time of the call, with what
// the connection has: system calls find data, the end and a reset there as on TCP's.
// Connection pools ask so whether a connection is alive. Control: see tcpcontrol.go.
type rawConn struct{ c *stackTCP }

// Read implements syscall.RawConn.
func (r rawConn) Read(f func(fd uintptr) bool) error {
	return r.error("raw-read", r.c.s.Inspect(func(data []byte, end error) (read int, done bool, err error) {
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
			r.c.broken.Store(true)
		}
		return shown - w.unread(), done, nil
	}))
}

// Write implements syscall.RawConn. The connection has taken what f wrote when it
// returns.
func (r rawConn) Write(f func(fd uintptr) bool) error {
	for {
		err := r.c.s.MayWrite()
		if err != nil {
			err = r.c.tellOnce(err, syscall.EPIPE)
		}
		var done, wrote bool
		if err == nil || err == syscall.EPIPE {
			done, wrote, err = r.offer(f, err)
		}
		if err == nil && !done && !wrote {
			err = r.c.s.AwaitEnd() // there is room, so no more comes
		}
		if done || err != nil {
			return r.error("raw-write", err)
		}
	}
}

// offer has f write to a window, and writes that to the connection. end is nil, or
// EPIPE, which f is to find.
func (r rawConn) offer(f func(fd uintptr) bool, end error) (done, wrote bool, err error) {
	w, err := newWindow(end)
	if err != nil {
		return false, false, err
	}
	defer w.close()
	done = f(uintptr(w.near))
	p, err := w.written()
	if err == nil && len(p) > 0 {
		if _, err = r.c.s.Write(p); err != nil {
			err = r.c.tellOnce(err, syscall.EPIPE)
		}
	}
	return done, len(p) > 0, err
}

// untold is what f is to find where the connection has ended: an error is found
// once, as tellOnce has it. Those that a Unix socket cannot have are Read's own.
func (r rawConn) untold(end error) (error, error) {
	if _, ok := end.(syscall.Errno); !ok {
		return end, nil
	}
	if end == syscall.ECONNRESET && !r.c.broken.Load() {
		return end, nil
	}
	if end = r.c.tellOnce(end, io.EOF); end == io.EOF {
		return end, nil
	}
	return nil, end
}

// error words err as net's RawConn does.
func (r rawConn) error(op string, err error) error {
	if err == nil {
		return nil
	}
	if op == "raw-control" {
		return &net.OpError{Op: op, Net: r.c.network(), Addr: r.c.LocalAddr(), Err: err}
	}
	return &net.OpError{Op: op, Net: r.c.network(), Source: r.c.LocalAddr(), Addr: r.c.RemoteAddr(), Err: err}
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
