package engine

import (
	"net/netip"
	"slices"
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
	shards []*stack.UDPConn
	on     []*stack.Stack
	twin   bool // the kernel carries what is not accelerated
	routes routeCache
}

// Bind opens a socket on port at the shards, of which there is at least one,
// with the options of a hook. held says that the caller holds the kernel's port
// with a socket, which sends the datagrams that To leaves to the kernel. Errors
// are those of stack.OpenUDP.
func (e *Engine) Bind(sh *Shards, port uint16, held bool, o *Options) (*Socket, error) {
	c := &Socket{e: e, on: sh.Stacks, twin: held}
	opts := e.udp(o)
	opts.PortHeld, opts.Shared = held, o.reusePort
	at := netip.AddrPortFrom(sh.Addr, port)
	for _, s := range sh.Stacks {
		shard, err := s.OpenUDP(at, netip.AddrPort{}, opts)
		if err != nil {
			_ = c.Close()
			return nil, err
		}
		c.shards = append(c.shards, shard)
		opts.Forward = c.shards[0]
	}
	c.first = c.shards[0]
	return c, nil
}

// Receiver returns the shard whose ReadFrom returns the datagrams of all shards,
// and those that are injected into it.
func (c *Socket) Receiver() *stack.UDPConn { return c.first }

// LocalAddr is the address bound to; an invalid one stands for all of both
// families.
func (c *Socket) LocalAddr() netip.AddrPort { return c.first.LocalAddr() }

// Path is how packets travel.
func (c *Socket) Path() Path { return PathOf(c.on...) }

// To returns the shard that sends to dst, nil for the kernel's socket. Errors are
// those of Way; without a kernel an invalid address is EINVAL.
func (c *Socket) To(dst netip.Addr, port int) (*stack.UDPConn, error) {
	bound := c.LocalAddr().Addr()
	if port <= 0 || port != int(uint16(port)) || bound.IsValid() && bound.Is4() != dst.Is4() {
		// No address: the kernel refuses it, in its own words.
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
		w, err := c.e.Way(AnyFamily, Traffic{Proto: ip.ProtoUDP, Unbound: true}, bound, netip.AddrPortFrom(dst, uint16(port)))
		if err != nil {
			return nil, err
		}
		if i = slices.Index(c.on, w.Stack); i < 0 {
			i = kernelShard
		}
		if !ports {
			c.routes.put(dst, gen, i)
		}
	}
	switch {
	case i != kernelShard:
		return c.shards[i], nil
	case !c.twin:
		return nil, syscall.ENETUNREACH
	}
	return nil, nil
}

// Close closes the socket. The error is the first shard's.
func (c *Socket) Close() error { return closeAll(c.shards) }

// SetWriteDeadline sets when sending fails with os.ErrDeadlineExceeded.
func (c *Socket) SetWriteDeadline(t time.Time) error {
	return c.each(func(s *stack.UDPConn) error { return s.SetWriteDeadline(t) })
}

// SetWriteBuffer bounds the bytes that wait to be sent.
func (c *Socket) SetWriteBuffer(bytes int) error {
	return c.each(func(s *stack.UDPConn) error { return s.SetWriteBuffer(bytes) })
}

// each calls fn for every shard, and returns the first error.
func (c *Socket) each(fn func(s *stack.UDPConn) error) error {
	for _, s := range c.shards {
		if err := fn(s); err != nil {
			return err
		}
	}
	return nil
}
