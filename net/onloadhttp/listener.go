package onloadhttp

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	onload "github.com/onload-go/onload/net"
)

// Listener gives an http.Server its connections, and passes them on. Its method ConnState
// has to be, or be called by, the server's.
type Listener struct {
	inner   deadlineListener
	leaving atomic.Bool // connections leave before their next request

	mu      sync.Mutex
	news    sync.Cond // of came, passing and closed
	conns   map[*conn]bool
	came    []net.Conn // by Takeover, or back from a Handoff that failed
	left    []net.Conn // by leaving
	passing bool       // Handoff is under way: what comes back is accepted
	passed  bool       // the successor has inner
	closed  bool
}

// deadlineListener is what a listener has to have besides net's methods, as TCPListener
// and UnixListener do.
type deadlineListener interface {
	net.Listener
	SetDeadline(t time.Time) error
}

// NewListener returns a Listener for what l accepts, such as a TCPListener of onload or of
// net. Nobody else may accept with l, nor set its deadline. Where l has no SetDeadline the
// error is errors.ErrUnsupported.
func NewListener(l net.Listener) (*Listener, error) {
	inner, ok := l.(deadlineListener)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	x := &Listener{inner: inner, conns: map[*conn]bool{}}
	x.news.L = &x.mu
	return x, nil
}

// Accept implements net.Listener. Connections that a predecessor has passed come first.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		if c := l.next(); c != nil {
			return l.wrap(c), nil
		}
		c, err := l.inner.Accept()
		switch {
		case err == nil:
			return l.wrap(c), nil
		case errors.Is(err, os.ErrDeadlineExceeded): // see add
		case !l.waitForMore():
			return nil, err
		}
	}
}

// next returns a connection that was added. It sets the listener's deadline: add wakes
// the Accept that waits by that.
func (l *Listener) next() net.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.came) == 0 {
		_ = l.inner.SetDeadline(time.Time{})
		return nil
	}
	c := l.came[0]
	l.came = l.came[1:]
	return c
}

// waitForMore waits, where inner is closed by a Handoff, until that has given something
// back or l is closed too: Serve goes on until Shutdown. It reports whether there is
// something.
func (l *Listener) waitForMore() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for (l.passing || l.passed) && len(l.came) == 0 && !l.closed {
		l.news.Wait()
	}
	return len(l.came) > 0
}

// add has Accept return connections. Where nobody will accept them they are closed.
func (l *Listener) add(conns ...net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		for _, c := range conns {
			_ = c.Close()
		}
		return
	}
	l.came = append(l.came, conns...)
	_ = l.inner.SetDeadline(time.Unix(1, 0))
	l.news.Broadcast()
}

func (l *Listener) wrap(inner net.Conn) net.Conn {
	c := &conn{Conn: inner, l: l, between: true}
	c.news.L = &c.mu
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = true
	return c
}

func (l *Listener) forget(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// Addr implements net.Listener.
func (l *Listener) Addr() net.Addr { return l.inner.Addr() }

// Close implements net.Listener.
func (l *Listener) Close() error {
	l.mu.Lock()
	l.closed = true
	came := l.came
	l.came = nil
	l.news.Broadcast()
	l.mu.Unlock()
	for _, c := range came {
		_ = c.Close()
	}
	return l.inner.Close()
}

// ConnState is for http.Server.ConnState.
func (l *Listener) ConnState(nc net.Conn, state http.ConnState) {
	c, ok := nc.(*conn)
	if over, is := nc.(interface{ NetConn() net.Conn }); !ok && is { // a tls.Conn
		if c, ok = over.NetConn().(*conn); ok {
			c.mu.Lock()
			c.fixed = true
			c.mu.Unlock()
		}
		return
	}
	if !ok {
		return
	}
	switch state {
	case http.StateIdle:
		c.mu.Lock()
		c.between = true
		c.mu.Unlock()
	case http.StateHijacked:
		c.mu.Lock()
		c.fixed = true
		c.mu.Unlock()
		l.forget(c)
	}
}

// Handoff passes the listener to the process at the other end of to, which calls
// Takeover, and then the connections: those that wait for a request at once, others when
// their request is answered. It returns when none is left that can leave, or with ctx's
// error when ctx ends. The server goes on with those that stayed; Shutdown ends them.
//
// If the listener could not be passed nothing has changed, but that the kernel carries it.
func (l *Listener) Handoff(ctx context.Context, to *onload.UnixConn) error {
	if end, ok := ctx.Deadline(); ok {
		if err := to.SetDeadline(end); err != nil {
			return err
		}
	}
	l.mu.Lock()
	l.passing = true
	l.mu.Unlock()
	defer func() {
		l.leaving.Store(false)
		l.add(l.takeLeft()...)
		l.mu.Lock()
		l.passing = false
		l.news.Broadcast()
		l.mu.Unlock()
	}()
	if err := onload.Handoff(to, []onload.Passed{{Name: "listener", Socket: l.inner}}); err != nil {
		return err
	}
	l.mu.Lock()
	l.passed = true
	l.mu.Unlock()
	l.leaving.Store(true)
	for {
		conns, more := l.takeAll()
		for i, c := range conns {
			err := onload.Handoff(to, []onload.Passed{{Name: "connection", Socket: c}})
			switch {
			case errors.Is(err, syscall.ENOTCONN):
				_ = c.Close() // its client has reset it meanwhile
			case err != nil:
				l.add(conns[i:]...)
				return err
			}
		}
		if !more {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

// takeAll takes the connections that wait for a request, and reports whether others may
// still come to that.
func (l *Listener) takeAll() (taken []net.Conn, more bool) {
	l.mu.Lock()
	all := make([]*conn, 0, len(l.conns))
	for c := range l.conns {
		all = append(all, c)
	}
	l.mu.Unlock()
	for _, c := range all {
		if c.take() {
			l.forget(c)
			taken = append(taken, c.Conn)
		} else {
			more = more || !c.stays()
		}
	}
	return append(taken, l.takeLeft()...), more
}

// leave notes a connection that has left the server.
func (l *Listener) leave(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.left = append(l.left, c)
}

func (l *Listener) takeLeft() (left []net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	left, l.left = l.left, nil
	return left
}

// Takeover receives the listener that a predecessor passes by Handoff at the other end of
// from, and its connections as they come, until it closes its end. It closes from then.
func Takeover(from *onload.UnixConn) (*Listener, error) {
	return takeover(from, onload.Takeover)
}

// TakeoverBy is Takeover for an engine that is not the default one.
func TakeoverBy(e *onload.Engine, from *onload.UnixConn) (*Listener, error) {
	return takeover(from, e.Takeover)
}

func takeover(from *onload.UnixConn, by func(*onload.UnixConn) ([]onload.Passed, error)) (*Listener, error) {
	all, err := by(from)
	if err != nil {
		return nil, err
	}
	var inner net.Listener
	if len(all) == 1 {
		inner, _ = all[0].Socket.(net.Listener)
	}
	if inner == nil {
		for i := range all {
			_ = all[i].Socket.(io.Closer).Close()
		}
		return nil, errors.New("onloadhttp: the predecessor does not begin with a listener")
	}
	l, err := NewListener(inner)
	if err != nil {
		return nil, errors.Join(err, inner.Close())
	}
	go func() {
		defer from.Close()
		for {
			all, err := by(from)
			if err != nil {
				return
			}
			for i := range all {
				if c, ok := all[i].Socket.(net.Conn); ok {
					l.add(c)
				} else {
					_ = all[i].Socket.(io.Closer).Close()
				}
			}
		}
	}()
	return l, nil
}
