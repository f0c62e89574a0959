package stack

import (
	"errors"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"syscall"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/ip"
)

// portTable holds the ports that the stack uses. Each is reserved with the kernel,
// so that nobody else gets it, and steered to our queues. The table has its own
// lock, since both take system calls: nothing here runs per packet.
type portTable struct {
	returns portReturns
	leaving *leaving // a team's is of all its stacks

	kernel control.Ports

	steerMu sync.RWMutex // held while a port is steered, or given back; before mu
	device  driver.Steering

	mu      sync.Mutex
	spaces  map[localAddr]*portSpace
	lone    map[*port]struct{}
	steered map[*port]int // how often each port is steered; lone ones are not here
	// exceptions has flows of those ports that are the kernel's, the oldest first.
	exceptions []exception
	held       int // ports that take a descriptor of the process

	enough    int // idle ports that a pool keeps
	shareFrom int // size of a pool from which on connections share a port
	most      int // descriptors that ports of our choice may take
}

type localAddr struct {
	proto uint8
	addr  netip.Addr
}

// portSpace has the reserved ports of a local address. An address without ports has
// none.
type portSpace struct {
	at   localAddr
	used map[uint16]*port
	pool []*port // those that we chose for connections, in any order
	// The ports of pool that no connection uses, the longest unused first. They
	// stay reserved for the next connections, since reserving and steering a port
	// costs four system calls.
	idle []*port
}

// port is a reserved port. Connections share it, and count it.
type port struct {
	space  *portSpace
	held   control.Held
	refs   int32
	pos    int32 // in the pool, + 1; 0: not chosen by us
	number uint16
	share  control.Sharing // users of the stack may join, those of the kernel only after open
	gone   bool            // no longer in the table
	// departed: its listener or bound socket has closed. See leaving.
	departed bool
	twin     syscall.RawConn // the caller's kernel socket that has the port; nil: there is none
	// remote is the peer of a lone port, which is steered for one connection only
	// and not reserved with the kernel. Of other ports it is invalid.
	remote netip.AddrPort
}

func (p *port) pooled() bool { return p.pos > 0 }

func (p *port) addr() netip.AddrPort { return netip.AddrPortFrom(p.space.at.addr, p.number) }

// Ephemeral range used where no kernel chooses (RFC 6335).
const (
	ephemeralMin = 49152
	ephemeralMax = 65535
)

// newPortTable makes the table of one of so many stacks, which have their part of the
// process's descriptors each.
func newPortTable(k control.Ports, s driver.Steering, stacks int) *portTable {
	t := &portTable{
		kernel: k, device: s, leaving: &leaving{},
		spaces:  make(map[localAddr]*portSpace),
		lone:    make(map[*port]struct{}),
		steered: make(map[*port]int),
		enough:  poolPorts, most: math.MaxInt,
	}
	var lim syscall.Rlimit
	if k != nil && syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim) == nil {
		limit := lim.Cur / uint64(stacks)
		t.enough = int(min(poolPorts, limit/poolPart))
		t.most = int(min(math.MaxInt, limit/poolMost))
	}
	t.shareFrom = min(idleLeast, t.enough)
	return t
}

// Vacate gives the port of local back to the kernel if the stack, or another of its
// team, keeps it and no socket uses it, since the user asks for it. The address may be a wildcard.
func (s *Stack) Vacate(proto uint8, local netip.AddrPort) {
	if local.Port() == 0 {
		return
	}
	for _, s := range s.team() {
		// A caller that has just seen its connection end may be ahead of the turn
		// that gives the port back.
		s.begin()
		s.end()
		s.ports.vacate(proto, local)
	}
}

// Share lets a listener of ours have the port of local if the connections that have
// it share theirs. It is called before the listener's twin is bound. The address
// may be a wildcard.
func (s *Stack) Share(local netip.AddrPort) { s.ports.open(local) }

// bindLocal reserves local and steers it.
func (t *portTable) bindLocal(proto uint8, local netip.AddrPort, held bool, share control.Sharing) (*port, error) {
	p, err := t.take(proto, local, held, nil, share)
	if err != nil {
		return nil, err
	}
	return t.steer(p)
}

// take reserves local, which is not steered yet: a listener is entered first, so that
// nobody is refused in between. Port 0 is the kernel's choice. If the socket shares its
// port, local may be in use by another socket that shares it too.
// twin is the caller's socket, where held.
func (t *portTable) take(proto uint8, local netip.AddrPort, held bool, twin syscall.RawConn, share control.Sharing) (*port, error) {
	t.settle()
	if share != (control.Sharing{}) && local.Port() != 0 {
		if p := t.join(proto, local, held); p != nil {
			return p, nil
		}
	}
	p, err := t.reserve(proto, local, held)
	if p != nil {
		t.mu.Lock()
		p.share, p.twin = share, twin
		t.mu.Unlock()
	}
	return p, err
}

// join counts another user of a shared port, if there is one: a port of that very
// address or, if the user does not hold it, of any.
func (t *portTable) join(proto uint8, local netip.AddrPort, held bool) *port {
	a := local.Addr()
	addrs := []netip.Addr{a}
	if !held && a.IsValid() {
		wild := netip.IPv6Unspecified()
		if a.Is4() {
			wild = netip.IPv4Unspecified()
		}
		addrs = append(addrs, wild, netip.Addr{})
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range addrs {
		sp := t.spaces[localAddr{proto, a}]
		if sp == nil {
			continue
		}
		if p := sp.used[local.Port()]; p != nil && p.share != (control.Sharing{}) && p.refs > 0 {
			p.refs++
			return p
		}
	}
	return nil
}

// reserve takes the port of local from the kernel, and does not steer it; any port if
// that is 0. A listener's port, whose twin in the kernel has just been closed, may still be ours
// while the kernel can give it: then reserve asks for another one.
func (t *portTable) reserve(proto uint8, local netip.AddrPort, held bool) (p *port, err error) {
	for range portTries {
		if p, err = t.reserveOne(proto, local, held); err != errPortOurs || local.Port() != 0 {
			break
		}
	}
	if err == errPortOurs {
		err = syscall.EADDRINUSE
	}
	return p, err
}

// errPortOurs says that the kernel gave a port that the table has.
var errPortOurs = errors.New("stack: the port is in the table")

func (t *portTable) reserveOne(proto uint8, local netip.AddrPort, held bool) (*port, error) {
	p := &port{refs: 1, number: local.Port()}
	at := localAddr{proto, local.Addr()}
	switch {
	case held:
	case t.kernel != nil:
		h, err := t.kernel.Hold(proto, local)
		if err != nil {
			return nil, err
		}
		p.held, p.number = h, h.Port
	case p.number == 0:
		if !t.pick(p, at) {
			return nil, syscall.EADDRINUSE
		}
	}
	t.mu.Lock()
	if !t.enter(p, at, held) {
		t.mu.Unlock()
		p.held.Close()
		return nil, errPortOurs
	}
	t.mu.Unlock()
	return p, nil
}

// bindable returns the error of bind(2) for a socket to remote from a port of no
// particular address. The kernel binds such a socket to all addresses before it
// connects. bindLocal must follow: as in the kernel, a connected socket has only
// its own address. Port 0 and shared ports are left for the kernel to find.
func (s *Stack) bindable(proto uint8, local, remote netip.AddrPort, share control.Sharing) error {
	t := s.ports
	if t.kernel == nil || local.Port() == 0 || share != (control.Sharing{}) {
		return nil
	}
	at := netip.AddrPortFrom(netip.Addr{}, local.Port()) // net's sockets of IPv6 are for both families
	if remote.Addr().Is4() {
		at = netip.AddrPortFrom(netip.IPv4Unspecified(), local.Port())
	}
	s.Vacate(proto, at)
	h, err := t.kernel.Hold(proto, at)
	h.Close()
	return err
}

// enter puts p among the ports of at. false: another port has the number, and p
// does not replace it. The lock is held.
func (t *portTable) enter(p *port, at localAddr, replace bool) bool {
	sp := t.spaces[at]
	if sp == nil {
		sp = &portSpace{at: at, used: make(map[uint16]*port)}
		t.spaces[at] = sp
	}
	if o := sp.used[p.number]; o != nil && o != p && !replace {
		return false
	}
	p.space = sp
	sp.used[p.number] = p
	if p.held != (control.Held{}) {
		t.held++
	}
	return true
}

// forget takes p out, and returns the descriptor to close. The lock is held.
func (t *portTable) forget(p *port) control.Held {
	p.gone = true
	if p.remote.IsValid() {
		delete(t.lone, p)
		h := p.held
		if h != (control.Held{}) {
			t.held--
		}
		p.held = control.Held{}
		return h
	}
	sp := p.space
	sp.unpool(p)
	if sp.used[p.number] == p {
		delete(sp.used, p.number)
		if len(sp.used) == 0 {
			delete(t.spaces, sp.at)
		}
	}
	h := p.held
	if h != (control.Held{}) {
		t.held--
	}
	p.held = control.Held{}
	return h
}

// pick takes a free port for p where there is no kernel to ask.
func (t *portTable) pick(p *port, at localAddr) bool {
	const n = ephemeralMax - ephemeralMin + 1
	t.mu.Lock()
	defer t.mu.Unlock()
	first := rand.IntN(n)
	for i := range n {
		p.number = uint16(ephemeralMin + (first+i)%n)
		if t.enter(p, at, false) {
			return true
		}
	}
	return false
}

// share counts another user of p.
func (t *portTable) share(p *port) *port {
	if p == nil {
		return nil
	}
	t.mu.Lock()
	p.refs++
	t.mu.Unlock()
	return p
}

// release drops a use of p. With the last one, p goes to the pool or back to the
// kernel. The stack lock is not held.
func (t *portTable) release(p *port) {
	if h, last := t.drop(p); last {
		t.giveBack(p, h)
	}
}

// drop drops a use of p. With the last one, p goes to the pool or leaves the table;
// in the latter case h is to be given back.
func (t *portTable) drop(p *port) (h control.Held, last bool) {
	if p == nil {
		return h, false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.refs--; p.refs > 0 {
		return h, false
	}
	if sp := p.space; p.pooled() && len(sp.idle) < t.enough && sp.used[p.number] == p {
		sp.idle = append(sp.idle, p)
		return h, false
	}
	return t.forget(p), true
}

// rehold takes p from the kernel again if connections are left on it. A listener
// held it until now, and it is still steered to us.
func (t *portTable) rehold(p *port) {
	if t.unlisten(p.addr()) {
		return
	}
	inUse := func() bool {
		return p.refs > 0 && p.space.used[p.number] == p && p.held == control.Held{}
	}
	t.mu.Lock()
	use := inUse()
	t.mu.Unlock()
	if !use || t.kernel == nil {
		return
	}
	h, err := t.kernel.HoldShared(p.space.at.proto, p.addr())
	if err != nil {
		return // it is still held, or somebody has just asked for it
	}
	t.mu.Lock()
	if use = inUse(); use {
		p.held = h
		t.held++
	}
	t.mu.Unlock()
	if !use {
		h.Close()
	}
}

// vacate gives the port of local back if only the pool keeps it. A wildcard stands
// for every address.
func (t *portTable) vacate(proto uint8, local netip.AddrPort) {
	t.settle()
	a := local.Addr()
	var idle []portReturn
	t.mu.Lock()
	for at, sp := range t.spaces {
		if at.proto != proto || at.addr != a && a.IsValid() && !a.IsUnspecified() {
			continue
		}
		i := slices.IndexFunc(sp.idle, func(p *port) bool { return p.number == local.Port() })
		if i >= 0 {
			p := sp.idle[i]
			sp.idle = slices.Delete(sp.idle, i, i+1)
			idle = append(idle, portReturn{p, t.forget(p)})
		}
	}
	t.mu.Unlock()
	for _, x := range idle {
		t.giveBack(x.port, x.held)
	}
}

// open lets listeners of the kernel, and so our twins, bind the port of local, as
// far as the connections that have it share it. A wildcard stands for every
// address. Until a listener of ours asks, the port is held from all: a listener of
// another process would get nothing, since the port is steered to us.
func (t *portTable) open(local netip.AddrPort) {
	t.shareUnlistened(local)
	a := local.Addr()
	t.mu.Lock()
	defer t.mu.Unlock()
	for at, sp := range t.spaces {
		if at.proto != ip.ProtoTCP || at.addr != a && a.IsValid() && !a.IsUnspecified() {
			continue // a UDP socket that holds a port would get datagrams
		}
		if p := sp.used[local.Port()]; p != nil {
			_ = p.held.Share(p.share) // otherwise bind finds the port in use
		}
	}
}

func (t *portTable) giveBack(p *port, h control.Held) {
	t.unsteer(p)
	t.endExceptions(func(x exception) bool { return x.port == p })
	t.hasDeparted(p)
	h.Close()
}

// close gives every port back.
func (t *portTable) close() {
	t.settle()
	var all []*port
	t.mu.Lock()
	for _, sp := range t.spaces {
		for _, p := range sp.used {
			all = append(all, p)
		}
	}
	for p := range t.lone {
		all = append(all, p)
	}
	t.mu.Unlock()
	for _, p := range all {
		t.mu.Lock()
		h := t.forget(p)
		t.mu.Unlock()
		t.giveBack(p, h)
	}
}
