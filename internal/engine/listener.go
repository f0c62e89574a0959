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
	before *anteroom          // where they wait until there is a first; nil: there was one at once
	at     netip.AddrPort
	opts   stack.TCPOptions // of further shards
	linger *int

	mu       sync.Mutex
	shards   []*stack.TCPListener
	on       []*stack.Stack
	finished bool
	closed   bool
}

// Listen listens on port at the shards. If there are none yet (Shards.Later), the caller
// holds the port, and what it injects is all that Accept returns until one comes. c is
// the configuration of connections, in which the caller has applied o. held says
// that the caller holds the kernel's port. Errors are those of stack.ListenTCP.
func (e *Engine) Listen(sh *Shards, port uint16, held bool, c *tcp.Config, o *Options) (*Listener, error) {
	return onAll(port, func() (*Listener, error) {
		l := &Listener{
			e: e, at: netip.AddrPortFrom(sh.Addr, port), linger: o.Linger,
			opts: stack.TCPOptions{TCP: c, PortHeld: held, Twin: sh.twin(), TwinServes: sh.TwinServes, Shared: o.reusePort, Unsteered: true, IP: o.ip},
		}
		if len(sh.Stacks) == 0 {
			l.before = newAnteroom()
		}
		if err := joinAll(l, sh.Stacks); err != nil {
			_ = l.Close()
			return nil, err
		}
		l.mu.Lock()
		l.opts.TwinServes = held // clients of an interface that comes later have been the kernel's
		l.mu.Unlock()
		e.bound.add(e, l)
		return l, nil
	})
}

func (l *Listener) boundTo() netip.Addr { return l.at.Addr() }

// join listens on s too, unless it does already.
func (l *Listener) join(s *stack.Stack) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.finished || slices.Contains(l.on, s) {
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
	if l.before != nil && l.first == shard {
		l.before.leave(shard)
	}
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

// stack returns the shard that gets all connections; nil: there is none yet.
func (l *Listener) stack() *stack.TCPListener {
	if l.before != nil {
		return l.before.left.Load()
	}
	return l.first
}

// Accept waits for the next connection, or returns a value given to Inject.
func (l *Listener) Accept() (c *stack.TCPConn, injected any, err error) {
	s := l.stack()
	if s == nil {
		if s, injected, err = l.before.accept(); s == nil {
			return nil, injected, err
		}
	}
	if c, injected, err = s.Accept(); c != nil && l.linger != nil {
		_ = c.SetLinger(*l.linger)
	}
	return c, injected, err
}

// Inject has Accept return x. x has a method Close for the case that nobody accepts
// it. Inject reports whether the listener is open.
func (l *Listener) Inject(x interface{ Close() error }) bool {
	if l.before != nil {
		return l.before.inject(x)
	}
	return l.first.Inject(x)
}

// SetDeadline sets when Accept fails with os.ErrDeadlineExceeded.
func (l *Listener) SetDeadline(t time.Time) error {
	if l.before != nil {
		return l.before.setDeadline(t)
	}
	return l.first.SetDeadline(t)
}

// Addr is the address listened on; an invalid one stands for all of both
// families.
func (l *Listener) Addr() netip.AddrPort {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at
}

// Path returns how packets travel.
func (l *Listener) Path() Path {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.on) == 0 {
		return Path{Reason: l.e.Shards(AnyFamily, l.at.Addr()).Why}
	}
	return PathOf(l.on...)
}

// Finish leaves new clients to the kernel's listener on the same port. Accept goes on to
// return connections whose handshakes have begun, and what is injected.
func (l *Listener) Finish() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.finished {
		return
	}
	l.finished = true
	for _, s := range l.shards {
		s.Finish()
	}
}

// Busy reports whether a connection waits for Accept, or may come of a handshake that
// has begun.
func (l *Listener) Busy() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.before != nil && l.before.waits() || l.first != nil && l.first.Waiting() > 0 {
		return true
	}
	return slices.ContainsFunc(l.shards, (*stack.TCPListener).Opening)
}

// Close stops listening. The error is the first shard's.
func (l *Listener) Close() error {
	l.e.bound.remove(l)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.before != nil {
		if err := l.before.close(); err != nil {
			return err
		}
	}
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
