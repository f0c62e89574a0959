package engine

import (
	"net/netip"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/stack"
)

// hearers are the engine's bound sockets that hear multicast groups, or may, since
// they share their port. The kernel's halves of them (the twins) have joined: the
// kernel speaks IGMP and MLD, and has the link take the groups' frames.
//
// XDP cannot give a packet to us and to the kernel. So a group's datagrams at a port
// are ours only while no other socket of the kernel's has the port; such a socket
// might hear the group. Else they come to us by the twins, as all that is the
// kernel's. The XDP program notices a socket that was bound after ours by itself
// (lookup_group in driver/afxdp/bpf); watch finds all others.
type hearers struct {
	e  *Engine
	mu sync.Mutex
	m  map[*Socket]*hearer
	// The part of it that the interfaces take off the kernel at present.
	steered map[groupAt]*stack.Stack
	stop    chan struct{} // ends watch; nil: it does not run
}

// hearer is what is known of a socket.
type hearer struct {
	port  uint16
	inode uint64 // of the twin
	wants []groupAt
}

// groupAt is a group at a port, on a link.
type groupAt struct {
	link int // index
	to   netip.AddrPort
}

// watchEvery is the time between two looks at who else has the ports of groups.
const watchEvery = 100 * time.Millisecond

// Hear has the socket hear what its twin does, whose RawConn is c. It is called
// when the socket is open, and when its program may have changed the twin.
func (c *Socket) Hear(twin syscall.RawConn) error {
	h, err := c.e.hearing(twin)
	if err != nil {
		return err
	}
	x := &hearer{port: c.at.Port()}
	for _, m := range h.Joined {
		x.wants = append(x.wants, groupAt{m.Link, netip.AddrPortFrom(m.Group, x.port)})
	}
	if err := twin.Control(func(fd uintptr) {
		var st unix.Stat_t
		err = unix.Fstat(int(fd), &st)
		x.inode = st.Ino
	}); err != nil {
		return err
	}
	if err != nil {
		return os.NewSyscallError("fstat", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.hearing = h
	for _, s := range c.parts.Load().shards {
		s.Hear(h)
	}
	c.e.hearers.set(c, x)
	if len(h.Joined) == 0 && !c.opts.GroupsOnly {
		return nil
	}
	// Only now, when the other sockets at the port have been looked for: from here
	// on the XDP program takes the twin for ours.
	if cerr := twin.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PRIORITY, groupPriority())
	}); cerr != nil {
		return cerr
	}
	return os.NewSyscallError("setsockopt", err)
}

// hearsAccelerated reports whether an interface takes groups of the socket's.
func (c *Socket) hearsAccelerated() bool {
	hs := &c.e.hearers
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if x := hs.m[c]; x != nil {
		for _, g := range x.wants {
			if hs.steered[g] != nil {
				return true
			}
		}
	}
	return false
}

func (hs *hearers) set(c *Socket, x *hearer) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if hs.m == nil {
		hs.m, hs.steered = map[*Socket]*hearer{}, map[groupAt]*stack.Stack{}
	}
	hs.m[c] = x
	hs.decide()
}

// remove is for a socket that closes.
func (hs *hearers) remove(c *Socket) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if hs.m[c] != nil {
		delete(hs.m, c)
		hs.decide()
	}
}

// close ends watch, with the engine.
func (hs *hearers) close() {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	clear(hs.m)
	if hs.stop != nil {
		close(hs.stop)
		hs.stop = nil
	}
}

// decide steers what is to be ours, and leaves the rest to the kernel. mu is held.
func (hs *hearers) decide() {
	want := map[groupAt]*stack.Stack{}
	ports := map[uint16]bool{}
	for _, x := range hs.m {
		for _, g := range x.wants {
			if s := hs.e.hearsAt(g.link); s != nil {
				want[g] = s
				ports[x.port] = true
			}
		}
	}
	if len(ports) > 0 {
		hs.others(ports)
	}
	for g, s := range hs.steered {
		if want[g] != s || !ports[g.to.Port()] {
			_ = s.SteerGroup(g.link, g.to, false) // an interface that is gone has taken its entries along
			delete(hs.steered, g)
		}
	}
	for g, s := range want {
		if hs.steered[g] != nil || !ports[g.to.Port()] {
			continue
		}
		if err := s.SteerGroup(g.link, g.to, true); err != nil {
			hs.e.log.Debug("the kernel keeps a multicast group", zap.Stringer("group", g.to), zap.Error(err))
			continue
		}
		hs.steered[g] = s
	}
	switch {
	case len(want) > 0 && hs.stop == nil:
		hs.stop = make(chan struct{})
		go hs.watch(hs.stop)
	case len(want) == 0 && hs.stop != nil:
		close(hs.stop)
		hs.stop = nil
	}
}

// watch decides again and again, since the kernel does not tell of sockets that
// are bound, nor of interfaces above ours that want the groups too.
func (hs *hearers) watch(stop chan struct{}) {
	t := time.NewTicker(watchEvery)
	defer t.Stop()
	for {
		select {
		case <-stop:
			return
		case <-t.C:
			hs.mu.Lock()
			if hs.stop == stop {
				hs.decide()
			}
			hs.mu.Unlock()
		}
	}
}

// others makes false which of the ports sockets have that are not ours. What
// cannot be read is as if there were some.
func (hs *hearers) others(ports map[uint16]bool) {
	ours := map[uint64]bool{}
	for _, x := range hs.m {
		ours[x.inode] = true
	}
	err := hs.e.ns.Do(func() error {
		for _, file := range []string{"udp", "udp6"} {
			err := eachLine(file, func(_ string, col []string) {
				if port, inode, ok := udpLine(col); ok && ports[port] && !ours[inode] {
					ports[port] = false
				}
			})
			if err != nil && !os.IsNotExist(err) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		clear(ports)
	}
}

// udpLine reads a line of /proc/net/udp or udp6: slot, local address, and the inode
// in the tenth column.
func udpLine(col []string) (port uint16, inode uint64, ok bool) {
	if len(col) < 10 {
		return 0, 0, false
	}
	at := len(col[1]) - 4
	if at < 0 {
		return 0, 0, false
	}
	p, err := strconv.ParseUint(col[1][at:], 16, 16)
	if err != nil {
		return 0, 0, false
	}
	inode, err = strconv.ParseUint(col[9], 10, 64)
	return uint16(p), inode, err == nil
}

// hearsAt returns the stack that takes the groups of a link; nil: they are the
// kernel's. What else hears them there would lose them: what is above the link, and
// a router of groups.
func (e *Engine) hearsAt(link int) *stack.Stack {
	i, why := e.behind(link)
	if why != "" || i.Index != link || !i.Kernel {
		return nil
	}
	for _, l := range e.net.Links() {
		switch {
		case l.Index == link && l.Master != 0:
			return nil // a port of a bridge, or of a bond
		case l.Kind == "macvlan", l.Kind == "macvtap", l.Kind == "ipvlan", l.Kind == "ipvtap":
			return nil // it may be above the link
		case l.Index == link && e.routesGroups(l.Name):
			return nil
		}
	}
	return i.Stack
}

// routesGroups reports whether the kernel forwards the groups of a link, for a
// daemon that routes them.
func (e *Engine) routesGroups(name string) (yes bool) {
	_ = e.ns.Do(func() error {
		for _, family := range []string{"ipv4", "ipv6"} {
			b, _ := os.ReadFile("/proc/sys/net/" + family + "/conf/" + name + "/mc_forwarding")
			yes = yes || len(b) > 0 && b[0] == '1'
		}
		return nil
	})
	return yes
}
