package stack

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"syscall"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/control"
)

// portTable holds the ports that the stack uses: each is reserved with the
// kernel, so that it is nobody else's, and steered to our queues. It has its
// own lock, since both take system calls: nothing here runs per packet.
type portTable struct {
	kernel control.Ports
	steer  driver.Steering

	mu   sync.Mutex
	used map[boundPort]*port
	// Ports of ended connections, the longest unused first, kept reserved for
	// the next ones: reserving and steering one costs four system calls.
	idle    map[localAddr][]*port
	maxIdle int // of each
}

type boundPort struct {
	proto uint8
	addr  netip.AddrPort
}

type localAddr struct {
	proto uint8
	addr  netip.Addr
}

// port is a reserved port. Connections share it, and count it.
type port struct {
	key    boundPort
	number uint16
	held   control.Held
	refs   int
	pooled bool // chosen by us: goes to idle, not back
}

// Limits on the pool, on the search in it, and on that for a new port.
const (
	// They are descriptors of the process, which has a limit.
	maxIdlePorts = 4096
	idlePart     = 8
	// With so many idle, a port is used again rather sooner than another one is
	// reserved.
	idleEnough   = 512
	portTries    = 4
	reserveTries = 32
)

// Ephemeral range used where no kernel chooses (RFC 6335).
const (
	ephemeralMin = 49152
	ephemeralMax = 65535
)

func newPortTable(k control.Ports, s driver.Steering) *portTable {
	t := &portTable{
		kernel: k, steer: s,
		used:    make(map[boundPort]*port),
		idle:    make(map[localAddr][]*port),
		maxIdle: maxIdlePorts,
	}
	var lim syscall.Rlimit
	if k != nil && syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim) == nil {
		t.maxIdle = int(min(maxIdlePorts, lim.Cur/idlePart))
	}
	return t
}

// bind reserves a port for a connection from local to remote. A local port 0
// is chosen at random (RFC 6056), from those of ended connections if one is
// free towards remote: of the older ones, since the younger are in TIME-WAIT.
func (t *portTable) bind(proto uint8, local, remote netip.AddrPort, taken func(local, remote netip.AddrPort, age int64) bool) (*port, error) {
	if local.Port() != 0 {
		return t.bindLocal(proto, local, false)
	}
	k := localAddr{proto, local.Addr()}
	for range portTries {
		t.mu.Lock()
		idle := t.idle[k]
		if len(idle) == 0 {
			t.mu.Unlock()
			break
		}
		i := rand.IntN(max(min(len(idle), 32), len(idle)/4))
		p := idle[i]
		idle[i], idle[0] = idle[0], nil
		t.idle[k] = idle[1:]
		p.refs = 1
		t.mu.Unlock()
		age := reuseAfter
		if len(idle) >= min(idleEnough, t.maxIdle) {
			age = reuseSoon
		}
		if !taken(netip.AddrPortFrom(local.Addr(), p.number), remote, age) {
			return p, nil
		}
		t.release(p)
	}
	for range reserveTries {
		p, err := t.reserve(proto, local, false)
		if err != nil {
			return nil, err
		}
		p.pooled = true
		// The kernel knows nothing of our connections in TIME-WAIT.
		if !taken(netip.AddrPortFrom(local.Addr(), p.number), remote, reuseAfter) {
			return p, nil
		}
		t.release(p)
	}
	return nil, syscall.EADDRNOTAVAIL
}

// bindLocal reserves local; port 0 is the kernel's choice.
func (t *portTable) bindLocal(proto uint8, local netip.AddrPort, held bool) (*port, error) {
	if local.Port() != 0 && !held {
		// A pooled port that no connection uses is the user's for the asking.
		t.dropIdle(boundPort{proto, local})
	}
	return t.reserve(proto, local, held)
}

func (t *portTable) reserve(proto uint8, local netip.AddrPort, held bool) (*port, error) {
	p := &port{refs: 1}
	n := local.Port()
	switch {
	case held:
	case t.kernel != nil:
		h, err := t.kernel.Hold(proto, local)
		if err != nil {
			return nil, err
		}
		p.held = h
		n = h.Port
	case n == 0:
		var ok bool
		if n, ok = t.pick(p, proto, local.Addr()); !ok {
			return nil, syscall.EADDRINUSE
		}
	}
	p.number = n
	p.key = boundPort{proto, netip.AddrPortFrom(local.Addr(), n)}
	t.mu.Lock()
	if o := t.used[p.key]; o != nil && o != p && !held {
		t.mu.Unlock()
		t.unhold(p)
		return nil, syscall.EADDRINUSE
	}
	t.used[p.key] = p
	t.mu.Unlock()
	if err := t.steer.AddPort(proto, p.key.addr); err != nil {
		t.mu.Lock()
		delete(t.used, p.key)
		t.mu.Unlock()
		t.unhold(p)
		return nil, err
	}
	return p, nil
}

// pick takes a free port for owner where there is no kernel to ask.
func (t *portTable) pick(owner *port, proto uint8, addr netip.Addr) (uint16, bool) {
	const n = ephemeralMax - ephemeralMin + 1
	t.mu.Lock()
	defer t.mu.Unlock()
	first := rand.IntN(n)
	for i := range n {
		p := uint16(ephemeralMin + (first+i)%n)
		if k := (boundPort{proto, netip.AddrPortFrom(addr, p)}); t.used[k] == nil {
			t.used[k] = owner // before another can pick it
			return p, true
		}
	}
	return 0, false
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

// release drops a use of p; with the last, it goes to the pool or back to
// the kernel.
func (t *portTable) release(p *port) {
	if p == nil {
		return
	}
	t.mu.Lock()
	if p.refs--; p.refs > 0 {
		t.mu.Unlock()
		return
	}
	k := localAddr{p.key.proto, p.key.addr.Addr()}
	if p.pooled && len(t.idle[k]) < t.maxIdle {
		t.idle[k] = append(t.idle[k], p)
		t.mu.Unlock()
		return
	}
	t.forget(p)
	t.mu.Unlock()
	t.giveBack(p)
}

// rehold takes p from the kernel again, whose listener held it until now, if
// connections are left on it: it is still steered to us.
func (t *portTable) rehold(p *port) {
	inUse := func() bool { return p.refs > 0 && t.used[p.key] == p }
	t.mu.Lock()
	use := inUse()
	t.mu.Unlock()
	if !use || t.kernel == nil {
		return
	}
	h, err := t.kernel.HoldShared(p.key.proto, p.key.addr)
	if err != nil {
		return // it is held still, or somebody has just asked for it
	}
	t.mu.Lock()
	if use = inUse(); use {
		p.held = h
	}
	t.mu.Unlock()
	if !use {
		h.Close()
	}
}

// dropIdle gives a pooled port that nobody uses back to the kernel.
func (t *portTable) dropIdle(b boundPort) {
	k := localAddr{b.proto, b.addr.Addr()}
	t.mu.Lock()
	for i, p := range t.idle[k] {
		if p.key == b {
			t.idle[k] = append(t.idle[k][:i], t.idle[k][i+1:]...)
			t.forget(p)
			t.mu.Unlock()
			t.giveBack(p)
			return
		}
	}
	t.mu.Unlock()
}

func (t *portTable) forget(p *port) {
	if t.used[p.key] == p {
		delete(t.used, p.key)
	}
}

func (t *portTable) giveBack(p *port) {
	_ = t.steer.RemovePort(p.key.proto, p.key.addr)
	t.unhold(p)
}

func (t *portTable) unhold(p *port) {
	p.held.Close()
}

// close gives every port back.
func (t *portTable) close() {
	t.mu.Lock()
	all := make([]*port, 0, len(t.used))
	for _, p := range t.used {
		all = append(all, p)
	}
	clear(t.used)
	clear(t.idle)
	t.mu.Unlock()
	for _, p := range all {
		t.giveBack(p)
	}
}
