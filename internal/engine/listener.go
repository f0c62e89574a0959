package engine

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/tcp"
)

// Listener listens on one address of one or several stacks. One Accept returns all
// of their connections, and the values that Inject adds.
type Listener struct {
	e      *Engine
	first  *stack.TCPListener // gets all connections
	at     netip.AddrPort
	opts   stack.TCPOptions // of further shards
	linger *int

	mu     sync.Mutex
	shards []*stack.TCPListener
	on     []*stack.Stack
	closed bool
}

// Listen listens on port at the shards, of which there is at least one. c is the
// configuration of connections, in which the caller has applied o. held says
// that the caller holds the kernel's port. Errors are those of stack.ListenTCP.
func (e *Engine) Listen(sh *Shards, port uint16, held bool, c *tcp.Config, o *Options) (*Listener, error) {
	return onAll(port, func() (*Listener, error) {
		l := &Listener{
			e: e, at: netip.AddrPortFrom(sh.Addr, port), linger: o.Linger,
			opts: stack.TCPOptions{TCP: c, PortHeld: held, Twin: sh.twin(), Shared: o.reusePort, Unsteered: true, IP: o.ip},
		}
		if err := joinAll(l, sh.Stacks); err != nil {
			_ = l.Close()
			return nil, err
		}
		e.bound.add(e, l)
		return l, nil
	})
}

func (l *Listener) boundTo() netip.Addr { return l.at.Addr() }

// join listens on s too, unless it does already.
func (l *Listener) join(s *stack.Stack) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || slices.Contains(l.on, s) {
		return nil
	}
	shard, err := s.ListenTCP(l.at, &l.opts)
	if err != nil {
		return err
	}
	if l.first == nil {
		l.first, l.opts.Forward = shard, shard
		l.at = shard.Addr() // the others have the same port
	}
	l.shards, l.on = append(l.shards, shard), append(l.on, s)
	return nil
}

func (l *Listener) steer() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	return steerAll(l.shards)
}

// Accept waits for the next connection, or returns a value given to Inject.
func (l *Listener) Accept() (c *stack.TCPConn, injected any, err error) {
	if c, injected, err = l.first.Accept(); c != nil && l.linger != nil {
		_ = c.SetLinger(*l.linger)
	}
	return c, injected, err
}

// Inject has Accept return x. x has a method Close for the case that nobody accepts
// it. Inject reports whether the listener is open.
func (l *Listener) Inject(x interface{ Close() error }) bool { return l.first.Inject(x) }

// SetDeadline sets when Accept fails with os.ErrDeadlineExceeded.
func (l *Listener) SetDeadline(t time.Time) error { return l.first.SetDeadline(t) }

// Addr is the address listened on; an invalid one stands for all of both
// families.
func (l *Listener) Addr() netip.AddrPort { return l.first.Addr() }

// Path returns how packets travel.
func (l *Listener) Path() Path {
	l.mu.Lock()
	defer l.mu.Unlock()
	return PathOf(l.on...)
}

// Close stops listening. The error is the first shard's.
func (l *Listener) Close() error {
	l.e.bound.remove(l)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	return closeAll(l.shards)
}

// HoldPort makes accepted connections hold the port, whose kernel socket the caller
// has just closed.
func (l *Listener) HoldPort() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.shards {
		s.HoldPort()
	}
}
