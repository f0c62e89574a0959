package engine

import (
	"errors"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/outside"
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
	k   groupKernel
	log *zap.Logger

	mu sync.Mutex
	m  map[*Socket]*hearer
	// Sums of m: how many sockets want a group, and whose inodes are twins.
	wants map[groupAt]int
	twins map[uint64]bool
	// The kernel's answers, as last read: the stack that takes the groups of a link,
	// and the inodes of the sockets at a port. nil inodes: they could not be read.
	takes  map[int]*stack.Stack
	inodes map[uint16][]uint64
	// The groups that the interfaces take off the kernel at present.
	steered map[groupAt]*stack.Stack
	stop    chan struct{} // ends watch; nil: it does not run
}

// groupKernel has what hearers ask of the kernel, and have done; the Engine is one.
type groupKernel interface {
	// takesGroups returns the stack that takes the groups of a link; nil: they are
	// the kernel's.
	takesGroups(link int) *stack.Stack
	// inodesAt returns the inodes of the sockets that have one of the ports.
	inodesAt(ports map[uint16]bool) (map[uint16][]uint64, error)
	// steer has the group's datagrams taken off its link, or left to the kernel again.
	steer(s *stack.Stack, g groupAt, ours bool) error
}

// hearer is what is known of a socket.
type hearer struct {
	port  uint16
	inode uint64 // of the twin; 0: it counts as a socket of others
	wants []groupAt
	// The XDP program takes the twin for ours, or soon will.
	marked bool
	// Marking it is not permitted, so its groups are the kernel's.
	refused bool
}

// groupAt is a group at a port, on a link.
type groupAt struct {
	link int // index
	to   netip.AddrPort
}

// watchEvery is the time between two looks at who else has the ports of groups.
const watchEvery = 100 * time.Millisecond

// Hear has the socket hear what its twin does, or the kernel's socket beside it that has
// the program's options. It is called when the socket is open, and when its program may
// have changed that one. Without the privilege to mark the twin the socket's groups are
// the kernel's.
func (c *Socket) Hear(beside syscall.RawConn) error {
	c.mu.Lock() // before reading: of two calls the later one reads the newer memberships
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	h, err := c.e.hearing(beside)
	if err != nil {
		return err
	}
	if err = c.hear(h); err != nil || !c.twin {
		return err
	}
	return c.hearTwin(beside, h)
}

// hearTwin has the groups that the twin has joined taken off their links.
func (c *Socket) hearTwin(twin syscall.RawConn, h stack.Hearing) (err error) {
	x := &hearer{port: c.at.Port(), marked: len(h.Joined) > 0 || c.opts.GroupsOnly}
	for _, m := range h.Joined {
		x.wants = append(x.wants, groupAt{m.Link, netip.AddrPortFrom(m.Group, x.port)})
	}
	if x.inode, err = inodeOf(twin); err != nil {
		return err
	}
	c.e.hearers.set(c, x)
	if !x.marked {
		return nil
	}
	// Only now, when the other sockets at the port have been looked for: from here
	// on the XDP program takes the twin for ours.
	err = mark(twin)
	if errors.Is(err, unix.EPERM) {
		c.e.hearers.set(c, &hearer{port: x.port, refused: true})
		return nil
	}
	return err
}

// inodeOf returns the inode of a socket.
func inodeOf(c syscall.RawConn) (inode uint64, err error) {
	cerr := c.Control(func(fd uintptr) {
		var st unix.Stat_t
		err = unix.Fstat(int(fd), &st)
		inode = st.Ino
	})
	if cerr != nil {
		return 0, cerr
	}
	return inode, os.NewSyscallError("fstat", err)
}

// mark tells the XDP program that a twin is ours. EPERM: that takes CAP_NET_RAW or
// CAP_NET_ADMIN, unless it has been done (socket(7), SO_PRIORITY).
func mark(twin syscall.RawConn) (err error) {
	cerr := twin.Control(func(fd uintptr) {
		v, gerr := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PRIORITY)
		if gerr != nil || v != groupPriority() {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PRIORITY, groupPriority())
		}
	})
	if cerr != nil {
		return cerr
	}
	return os.NewSyscallError("setsockopt", err)
}

// groupsWhy returns why no interface takes groups of the socket's; empty: one does.
func (c *Socket) groupsWhy() string {
	hs := &c.e.hearers
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if x := hs.m[c]; x != nil {
		if x.refused {
			return "without CAP_NET_RAW or CAP_NET_ADMIN the socket cannot be marked (SO_PRIORITY) as one that hears multicast groups by an interface"
		}
		for _, g := range x.wants {
			if hs.steered[g] != nil {
				return ""
			}
		}
	}
	return "another socket may have the port too, and no interface takes a multicast group for this one"
}

// set enters what is known of a socket, instead of what was.
func (hs *hearers) set(c *Socket, x *hearer) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	if hs.m == nil {
		hs.m, hs.steered = map[*Socket]*hearer{}, map[groupAt]*stack.Stack{}
		hs.wants, hs.twins = map[groupAt]int{}, map[uint64]bool{}
	}
	old := hs.m[c]
	news := lookNowhere
	if x.marked && (old == nil || !old.marked || old.inode != x.inode) {
		news = lookAtPorts // a socket bound before this one would be hidden by it
	}
	for _, g := range x.wants {
		if hs.wants[g]++; hs.wants[g] == 1 {
			news = lookEverywhere
		}
	}
	if old != nil {
		hs.forget(old)
	}
	hs.m[c] = x
	if x.inode != 0 {
		hs.twins[x.inode] = true
	}
	hs.decide(news)
}

// remove is for a socket that closes. Its twin may stay, as a socket of the
// program's.
func (hs *hearers) remove(c *Socket) {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	x := hs.m[c]
	if x == nil {
		return
	}
	delete(hs.m, c)
	hs.forget(x)
	if l, ok := hs.inodes[x.port]; ok {
		hs.inodes[x.port] = append(l, x.inode)
	}
	hs.decide(lookNowhere)
}

// forget takes x out of the sums.
func (hs *hearers) forget(x *hearer) {
	for _, g := range x.wants {
		if hs.wants[g]--; hs.wants[g] == 0 {
			delete(hs.wants, g)
		}
	}
	delete(hs.twins, x.inode)
}

// close ends watch, with the engine.
func (hs *hearers) close() {
	hs.mu.Lock()
	defer hs.mu.Unlock()
	clear(hs.m)
	clear(hs.wants)
	if hs.stop != nil {
		close(hs.stop)
		hs.stop = nil
	}
}

// look says what decide reads anew.
type look int

const (
	lookNowhere look = iota
	lookAtPorts
	lookEverywhere // at links too
)

// decide steers what is to be ours, and leaves the rest to the kernel. mu is held.
func (hs *hearers) decide(news look) {
	if len(hs.wants) > 0 {
		hs.read(news)
	}
	ours := hs.ourPorts()
	taker := func(g groupAt) *stack.Stack {
		if !ours[g.to.Port()] {
			return nil
		}
		return hs.takes[g.link]
	}
	for g, s := range hs.steered {
		if taker(g) != s || hs.wants[g] == 0 {
			_ = hs.k.steer(s, g, false) // an interface that is gone has taken its entries along
			delete(hs.steered, g)
		}
	}
	for g := range hs.wants {
		s := taker(g)
		if s == nil || hs.steered[g] != nil {
			continue
		}
		if err := hs.k.steer(s, g, true); err != nil {
			hs.log.Debug("the kernel keeps a multicast group", zap.Stringer("group", g.to), zap.Error(err))
			continue
		}
		hs.steered[g] = s
	}
	switch {
	case len(hs.wants) > 0 && hs.stop == nil:
		outside.Do(func() { // of a bubble: it is for all sockets
			hs.stop = make(chan struct{})
			go hs.watch(hs.stop)
		})
	case len(hs.wants) == 0 && hs.stop != nil:
		close(hs.stop)
		hs.stop = nil
	}
}

// read asks the kernel: once for each link that has a wanted group, however many
// sockets want it, and once for all ports.
func (hs *hearers) read(news look) {
	if news == lookEverywhere {
		hs.takes = map[int]*stack.Stack{}
		for g := range hs.wants {
			if _, ok := hs.takes[g.link]; !ok {
				hs.takes[g.link] = hs.k.takesGroups(g.link)
			}
		}
	}
	ports := map[uint16]bool{}
	for g := range hs.wants {
		if hs.takes[g.link] != nil {
			ports[g.to.Port()] = true
		}
	}
	if news == lookNowhere || len(ports) == 0 {
		return
	}
	var err error
	if hs.inodes, err = hs.k.inodesAt(ports); err != nil {
		hs.inodes = nil
		hs.log.Debug("the kernel keeps all multicast groups", zap.Error(err))
	}
}

// ourPorts are those that only sockets of ours have. A port that could not be
// looked at is none.
func (hs *hearers) ourPorts() map[uint16]bool {
	ours := map[uint16]bool{}
	for port, l := range hs.inodes {
		ours[port] = true
		for _, inode := range l {
			if !hs.twins[inode] {
				ours[port] = false
				break
			}
		}
	}
	return ours
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
				hs.decide(lookEverywhere)
			}
			hs.mu.Unlock()
		}
	}
}
