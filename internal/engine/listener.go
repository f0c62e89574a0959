package engine

import (
	"net/netip"
	"time"

	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/tcp"
)

// Listener listens on one address of one or several stacks. One Accept returns
// all of their connections, and those that Inject adds.
type Listener struct {
	shards []*stack.TCPListener // the first gets all connections
	on     []*stack.Stack
	linger *int
}

// Listen listens on port at the shards, of which there is at least one. c is the
// configuration of connections, in which the caller has applied o. held says
// that the caller holds the kernel's port. Errors are those of stack.ListenTCP.
func (e *Engine) Listen(sh *Shards, port uint16, held bool, c *tcp.Config, o *Options) (*Listener, error) {
	l := &Listener{on: sh.Stacks, linger: o.Linger}
	opts := &stack.TCPOptions{TCP: c, PortHeld: held, Shared: o.reusePort, IP: o.ip}
	at := netip.AddrPortFrom(sh.Addr, port)
	for _, s := range sh.Stacks {
		shard, err := s.ListenTCP(at, opts)
		if err != nil {
			_ = l.Close()
			return nil, err
		}
		l.shards = append(l.shards, shard)
		opts.Forward = l.shards[0]
	}
	return l, nil
}

// Accept waits for the next connection, or returns a value given to Inject.
func (l *Listener) Accept() (c *stack.TCPConn, injected any, err error) {
	if c, injected, err = l.shards[0].Accept(); c != nil && l.linger != nil {
		_ = c.SetLinger(*l.linger)
	}
	return c, injected, err
}

// Inject has Accept return x, which has a method Close for when nobody accepts
// it. It reports whether the listener is open.
func (l *Listener) Inject(x interface{ Close() error }) bool { return l.shards[0].Inject(x) }

// SetDeadline sets when Accept fails with os.ErrDeadlineExceeded.
func (l *Listener) SetDeadline(t time.Time) error { return l.shards[0].SetDeadline(t) }

// Addr is the address listened on; an invalid one stands for all of both
// families.
func (l *Listener) Addr() netip.AddrPort { return l.shards[0].Addr() }

// Path is how packets travel.
func (l *Listener) Path() Path { return PathOf(l.on...) }

// Close stops listening. The error is the first shard's.
func (l *Listener) Close() error { return closeAll(l.shards) }

// HoldPort has accepted connections hold the port, of which the caller has just
// closed the kernel's socket.
func (l *Listener) HoldPort() {
	for _, s := range l.shards {
		s.HoldPort()
	}
}
