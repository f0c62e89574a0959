package onload

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/engine"
	"github.com/onload-go/onload/internal/stack"
)

// listenUDP opens a socket bound to laddr: the kernel's, which holds the port,
// and one on every stack that receives for the address.
func (lc *ListenConfig) listenUDP(ctx context.Context, e *Engine, style dialStyle, network string, laddr *net.UDPAddr) (*UDPConn, error) {
	fail := func(err error) (*UDPConn, error) {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: laddr, Err: cause("bind", err)}
	}
	at := addrPort(laddr.IP, laddr.Port, laddr.Zone)
	c := &UDPConn{e: e, log: e.in.Log(), network: network}
	var o options
	var err error
	shardsOf := family(network)
	if e.in.Twin(at.Addr()) {
		if c.k, err = lc.kernelUDP(ctx, e, style, network, laddr); err != nil {
			return nil, err
		}
		c.wide = isWide(c.k.LocalAddr())
		at = netip.AddrPortFrom(at.Addr(), uint16(c.k.LocalAddr().(*net.UDPAddr).Port))
		if lc.Control != nil && e.in.Accelerates() {
			if o, shardsOf, err = e.twinOptions(c.k); err != nil {
				_ = c.k.Close()
				return fail(err)
			}
		}
	} else if !isSocketAddr(laddr.IP, laddr.Port) {
		return fail(syscall.EINVAL)
	} else if lc.Control != nil {
		if o, shardsOf, err = lc.listenOptions(ctx, e, network, at.Addr(), laddr.String()); err != nil {
			return nil, &net.OpError{Op: "listen", Net: network, Addr: laddr, Err: err}
		}
	}
	sh := e.in.Shards(shardsOf, at.Addr())
	if len(sh.Stacks) > 0 && c.k != nil {
		c.unshare = o.share(e, network, c.k.LocalAddr().(*net.UDPAddr).AddrPort())
	}
	if o.kernel != "" {
		sh.Stacks, sh.Why = nil, o.kernel
	}
	if len(sh.Stacks) == 0 {
		if c.k == nil {
			return fail(syscall.EADDRNOTAVAIL)
		}
		c.why = sh.Why
		return c, nil
	}
	opts := e.udpOptions(&o)
	opts.PortHeld, opts.Shared = c.k != nil, o.reusePort
	err = c.open(sh.Stacks, netip.AddrPortFrom(sh.Addr, at.Port()), opts)
	switch {
	case err == syscall.EADDRINUSE && c.k != nil:
		c.unshare()
		e.in.Log().Warn(sharedPort, zap.Stringer("address", c.k.LocalAddr()))
		c.why = sharedPort
		return c, nil
	case err != nil:
		_ = c.close()
		return fail(err)
	}
	if c.k != nil {
		c.pumped.Go(c.pump)
		if !e.in.Track(c, c.close) {
			_ = c.close()
			return fail(net.ErrClosed)
		}
	}
	return c, nil
}

// kernelUDP is the kernel's socket bound to laddr.
func (lc *ListenConfig) kernelUDP(ctx context.Context, e *Engine, style dialStyle, network string, laddr *net.UDPAddr) (k *net.UDPConn, err error) {
	if style == bare {
		err = e.inNS("listen", network, func() error {
			k, err = net.ListenUDP(network, laddr)
			return err
		})
		return k, err
	}
	c, err := e.listenPacketStd(ctx, lc.std(), network, laddr.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

// open opens a socket on each of the stacks, or none.
func (c *UDPConn) open(stacks []*stack.Stack, at netip.AddrPort, o *stack.UDPOptions) error {
	for _, s := range stacks {
		u, err := s.OpenUDP(at, netip.AddrPort{}, o)
		if err != nil {
			for _, s := range c.shards {
				_ = s.Close()
			}
			c.shards, c.on = nil, nil
			return err
		}
		c.shards = append(c.shards, u)
		c.on = append(c.on, s)
		o.Forward = c.shards[0]
	}
	c.s = c.shards[0]
	return nil
}

// maxDatagram is the most that a UDP datagram holds (RFC 768).
const maxDatagram = 65535

// pump hands the kernel's datagrams to the readers, until the socket closes.
func (c *UDPConn) pump() {
	b := make([]byte, maxDatagram)
	local := c.k.LocalAddr().(*net.UDPAddr).AddrPort()
	for failures := 0; ; {
		n, src, err := c.k.ReadFromUDPAddrPort(b)
		switch {
		case err == nil:
			failures = 0
			// Dropped where the readers are behind, as the kernel does.
			c.s.Inject(b[:n], netip.AddrPortFrom(src.Addr().Unmap(), src.Port()), local)
		case errors.Is(err, net.ErrClosed):
			return
		default:
			if failures++; failures == maxFailures {
				c.log.Error("the kernel's socket fails, its datagrams are lost", zap.Stringer("local", local), zap.Error(err))
				return
			}
		}
	}
}

// maxFailures is how many reads in a row may fail before the kernel's socket
// is given up.
const maxFailures = 100

// shardTo is shardFor for an address as the caller gave it: what is none the
// kernel refuses, in net's words.
func (c *UDPConn) shardTo(dst netip.Addr, port int) (*stack.UDPConn, error) {
	bound := c.s.LocalAddr().Addr()
	if port > 0 && port == int(uint16(port)) && (!bound.IsValid() || bound.Is4() == dst.Is4()) {
		return c.shardFor(dst)
	}
	if c.k == nil {
		return nil, syscall.EINVAL
	}
	return nil, nil
}

// shardFor returns the socket that sends to dst, nil for the kernel's.
func (c *UDPConn) shardFor(dst netip.Addr) (*stack.UDPConn, error) {
	gen := c.e.in.Gen()
	i, ok := c.routes.get(dst, gen)
	if !ok {
		bound := c.s.LocalAddr()
		w, err := c.e.in.Way(engine.AnyFamily, bound, netip.AddrPortFrom(dst, bound.Port()))
		if err != nil {
			return nil, err
		}
		if i = slices.Index(c.on, w.Stack); i < 0 {
			i = kernelShard
		}
		c.routes.put(dst, gen, i)
	}
	if i == kernelShard {
		if c.k == nil {
			return nil, syscall.ENETUNREACH
		}
		return nil, nil
	}
	return c.shards[i], nil
}

// routeCache remembers who sends to a few destinations, so that a route is not
// looked up for every datagram.
type routeCache struct {
	mu      sync.Mutex
	entries *[cacheSize]cachedRoute
}

type cachedRoute struct {
	dst   netip.Addr
	gen   uint64 // of the network's state that it was found in
	shard int
}

const (
	cacheSize   = 64
	kernelShard = -1
)

// slot spreads neighbours, whose addresses differ in the last bytes.
func slot(a netip.Addr) int {
	b := a.As16()
	return int(b[15]^b[14]<<3) % cacheSize
}

func (c *routeCache) get(dst netip.Addr, gen uint64) (shard int, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil {
		return 0, false
	}
	e := &c.entries[slot(dst)]
	return e.shard, e.dst == dst && e.gen == gen
}

func (c *routeCache) put(dst netip.Addr, gen uint64, shard int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil {
		c.entries = new([cacheSize]cachedRoute)
	}
	c.entries[slot(dst)] = cachedRoute{dst, gen, shard}
}
