package engine

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/ip"
)

// Socket is a UDP socket bound to one address of one or several stacks. The
// Receiver's ReadFrom returns the datagrams of all of them.
type Socket struct {
	e      *Engine
	first  *stack.UDPConn // its ReadFrom returns the datagrams of all shards
	at     netip.AddrPort
	opts   stack.UDPOptions // of further shards
	twin   bool             // the kernel carries what is not accelerated
	routes routeCache

	mu      sync.Mutex // of changes of parts
	parts   atomic.Pointer[parts]
	closed  bool
	hearing stack.Hearing // of multicast groups
	groups  GroupSend
	// Of links that no kernel stands behind, see nicjoin.go.
	beside   stack.Hearing      // of the kernel's socket beside this one
	joined   []stack.Membership // by Join
	groupSrc netip.Addr         // likewise; where groups are sent from
	onNICs   bool               // the socket has joined a group there
}

// parts are the shards of a Socket, and their stacks. Lists only grow, so that an
// index stays valid.
type parts struct {
	shards []*stack.UDPConn
	on     []*stack.Stack
}

// Bind opens a socket on port at the shards, of which there is at least one, with
// the options of a hook. held says that the caller holds the kernel's port with a
// socket, which sends the datagrams that To leaves to the kernel. Errors are those
// of stack.OpenUDP.
func (e *Engine) Bind(sh *Shards, port uint16, held bool, o *Options) (*Socket, error) {
	return onAll(port, func() (*Socket, error) {
		c := &Socket{e: e, at: netip.AddrPortFrom(sh.Addr, port), opts: *e.udp(o), twin: held, groups: o.groups}
		c.opts.PortHeld, c.opts.Twin, c.opts.Shared, c.opts.Unsteered = held, sh.twin(), o.reusePort, true
		c.parts.Store(&parts{})
		if err := joinAll(c, sh.Stacks); err != nil {
			_ = c.Close()
			return nil, err
		}
		e.bound.add(e, c)
		return c, nil
	})
}

func (c *Socket) boundTo() netip.Addr { return c.at.Addr() }

// join binds on s too, unless the socket is there. Destinations are then decided
// again.
func (c *Socket) join(s *stack.Stack) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.parts.Load()
	if c.closed || slices.Contains(p.on, s) {
		return nil
	}
	shard, err := s.OpenUDP(c.at, netip.AddrPort{}, &c.opts)
	if err != nil {
		return err
	}
	shard.Hear(c.hearing)
	if c.first == nil {
		c.first, c.opts.Forward = shard, shard
		c.at = shard.LocalAddr() // the others have the same port
	}
	c.parts.Store(&parts{append(slices.Clone(p.shards), shard), append(slices.Clone(p.on), s)})
	c.routes.clear()
	return nil
}

func (c *Socket) steer() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	return steerAll(c.parts.Load().shards)
}

// Receiver returns the shard whose ReadFrom returns the datagrams of all shards,
// and those that are injected into it.
func (c *Socket) Receiver() *stack.UDPConn { return c.first }

// LocalAddr is the address bound to; an invalid one stands for all of both
// families.
func (c *Socket) LocalAddr() netip.AddrPort { return c.first.LocalAddr() }

// Path returns how packets travel.
func (c *Socket) Path() Path {
	c.mu.Lock()
	onNICs := c.onNICs
	c.mu.Unlock()
	if c.opts.GroupsOnly && !onNICs {
		if why := c.groupsWhy(); why != "" {
			return Path{Reason: why}
		}
	}
	return PathOf(c.parts.Load().on...)
}

// To returns the shard that sends to dst, nil for the kernel's socket. Errors are
// those of Way; without a kernel an invalid address is EINVAL.
func (c *Socket) To(dst netip.Addr, port int) (*stack.UDPConn, error) {
	bound := c.LocalAddr().Addr()
	if port <= 0 || port != int(uint16(port)) || bound.IsValid() && bound.Is4() != dst.Is4() {
		// There is no address: the kernel refuses it, in its own words.
		if c.twin {
			return nil, nil
		}
		return nil, syscall.EINVAL
	}
	gen := c.e.net.Gen()
	ports := c.e.net.PortsMatter(dst) // the cache does not know them
	i, ok := kernelShard, false
	if !ports {
		i, ok = c.routes.get(dst, gen)
	}
	if !ok {
		bound := c.LocalAddr()
		t := Traffic{Proto: ip.ProtoUDP, Unbound: true}
		c.askFor(&t, dst)
		w, err := c.e.Way(AnyFamily, t, bound, netip.AddrPortFrom(dst, uint16(port)))
		if err != nil {
			return nil, err
		}
		if i = slices.Index(c.parts.Load().on, w.Stack); i < 0 {
			i = kernelShard
		}
		if !ports {
			c.routes.put(dst, gen, i)
		}
	}
	switch {
	case i != kernelShard:
		return c.parts.Load().shards[i], nil
	case !c.twin:
		return nil, syscall.ENETUNREACH
	}
	return nil, nil
}

// askFor adds to t what the socket's options say of datagrams to dst.
func (c *Socket) askFor(t *Traffic, dst netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t.Groups = c.groups
	if (&Traffic{IP: &c.opts.IP}).tos(dst) != 0 || dst.IsMulticast() {
		options := c.opts.IP
		t.IP = &options
	}
}

// Depart leaves the port to the kernel. What was received before can still be read.
func (c *Socket) Depart() {
	c.e.bound.remove(c)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.e.hearers.remove(c)
	for _, s := range c.parts.Load().shards {
		s.Depart()
	}
}

// Close closes the socket. The error is the first shard's.
func (c *Socket) Close() error {
	c.e.bound.remove(c)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.e.hearers.remove(c)
	_ = c.e.nicGroups.set(c.e, c, nil) // fewer groups are never too many
	return closeAll(c.parts.Load().shards)
}

// SetWriteDeadline sets when sending fails with os.ErrDeadlineExceeded.
func (c *Socket) SetWriteDeadline(t time.Time) error {
	return c.each(func(s *stack.UDPConn) error { return s.SetWriteDeadline(t) })
}

// SetWriteBuffer bounds the bytes that wait to be sent.
func (c *Socket) SetWriteBuffer(bytes int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opts.SndBuf = bytes // of shards that join later
	return c.each(func(s *stack.UDPConn) error { return s.SetWriteBuffer(bytes) })
}

// each calls fn for every shard, and returns the first error.
func (c *Socket) each(fn func(s *stack.UDPConn) error) error {
	for _, s := range c.parts.Load().shards {
		if err := fn(s); err != nil {
			return err
		}
	}
	return nil
}
