package stack

import (
	"net/netip"
	"time"

	"github.com/onload-go/onload/tcp"
)

// Onlookers look at all sockets of a stack while it works. They hold the lock for a few
// sockets at a time, and change nothing.

const (
	glanceGroups = 256 // of a table, whose pointers are copied at a time: some 2 us
	glanceConns  = 16  // that are looked at at a time: some 5 us
	glanceTries  = 3   // to copy a table between two of its changes of size
)

// TCPGlance is a TCP connection as an onlooker sees it.
type TCPGlance struct {
	Local, Remote  netip.AddrPort
	Link           int // index of the interface that its packets leave by; 0: unknown
	Queue          int // of the stack, by which its packets come
	Info           tcp.Info
	Timer          tcp.Timer
	RcvBuf, SndBuf int  // sizes, bytes
	Orphan         bool // the program has closed it
}

// TimeWaitGlance is a connection in TIME-WAIT.
type TimeWaitGlance struct {
	Local, Remote netip.AddrPort
	Link          int
	Left          time.Duration
}

// ListenerGlance is a TCP listener, or one stack's shard of it.
type ListenerGlance struct {
	Local     netip.AddrPort // its address is invalid for all of both families
	Pending   int            // connections that wait for Accept
	Backlog   int            // most of those
	Embryonic int            // handshakes that are not complete
}

// UDPGlance is a UDP socket, or one stack's shard of it.
type UDPGlance struct {
	Local, Remote  netip.AddrPort // Remote is the zero AddrPort unless it is connected
	Link           int            // 0: it is not connected
	Unread, Unsent int            // bytes, Unread as the kernel charges them
	RcvBuf, SndBuf int
	Drops          Drops
}

// EachTCP calls f with each connection, without the lock.
func (s *Stack) EachTCP(f func(*TCPGlance)) {
	var gs [glanceConns]TCPGlance
	eachOf(s, snapshot(s, &s.demux.flows), gs[:], func(c *TCPConn, g *TCPGlance) bool {
		if c.gone {
			return false
		}
		*g = TCPGlance{Local: c.tc.Local(), Remote: c.tc.Remote(), Queue: int(c.qi), Orphan: c.orphan}
		g.Info, g.Timer = c.tc.Glance(s.now)
		g.RcvBuf, g.SndBuf = c.tc.Buffers()
		g.Link = linkOfDst(c.dst)
		return true
	}, f)
}

// EachTimeWait calls f with each connection in TIME-WAIT, without the lock.
func (s *Stack) EachTimeWait(f func(*TimeWaitGlance)) {
	var gs [glanceConns]TimeWaitGlance
	eachOf(s, snapshot(s, &s.demux.timeWaits), gs[:], func(t *timeWait, g *TimeWaitGlance) bool {
		left := time.Duration(t.timer.At() - s.now)
		if !t.timer.Armed() || left < 0 {
			return false
		}
		*g = TimeWaitGlance{Local: t.local(), Remote: t.remote(), Link: linkOfDst(t.dst), Left: left}
		return true
	}, f)
}

// EachListener calls f with each listener, without the lock.
func (s *Stack) EachListener(f func(*ListenerGlance)) {
	var gs [glanceConns]ListenerGlance
	eachOf(s, boundSockets(s, s.demux.listeners), gs[:], func(l *TCPListener, g *ListenerGlance) bool {
		if l.closed.Load() || l.departed {
			return false
		}
		*g = ListenerGlance{Local: l.addr, Pending: l.tl.Pending(), Backlog: l.tl.Backlog(), Embryonic: l.tl.Embryonic()}
		return true
	}, f)
}

// EachUDP calls f with each UDP socket, without the lock.
func (s *Stack) EachUDP(f func(*UDPGlance)) {
	all := boundSockets(s, s.demux.udps)
	s.begin()
	for _, u := range s.demux.udpFlows { // a map may change while nobody looks at it
		if all = append(all, u); len(all)%glanceGroups == 0 {
			s.end()
			s.begin()
		}
	}
	s.end()
	var gs [glanceConns]UDPGlance
	eachOf(s, all, gs[:], func(u *UDPConn, g *UDPGlance) bool {
		if u.closed.Load() {
			return false
		}
		*g = UDPGlance{
			Local: u.local, Remote: u.remote, Unread: u.rq.Held(), Unsent: int(u.queued.Load()),
			RcvBuf: u.rq.Limit(), SndBuf: int(u.sndBuf.Load()), Drops: Drops{u.full.Load(), u.scarce.Load()},
		}
		if u.remote.IsValid() {
			g.Link = linkOfDst(u.dst)
		}
		return true
	}, f)
}

func linkOfDst(d *dst) int {
	if d == nil || d.on == nil && !d.detour {
		return 0
	}
	return d.link()
}

// eachOf fills gs from some of all under the lock, and calls f with each without it, until
// all are done. look returns false for what is gone.
func eachOf[T, G any](s *Stack, all []*T, gs []G, look func(*T, *G) bool, f func(*G)) {
	for len(all) > 0 {
		n := 0
		s.begin()
		if s.life.closing.Load() {
			s.end()
			return
		}
		for len(all) > 0 && n < len(gs) {
			if look(all[0], &gs[n]) {
				n++
			}
			all = all[1:]
		}
		s.end()
		for i := range gs[:n] {
			f(&gs[i])
		}
	}
}

// boundSockets are those of a table, each once.
func boundSockets[T any](s *Stack, b boundTable[*T]) (all []*T) {
	seen := map[*T]bool{}
	s.begin()
	defer s.end()
	for _, l := range b {
		for _, x := range l {
			if !seen[x.socket] {
				seen[x.socket] = true
				all = append(all, x.socket)
			}
		}
		if len(all)%glanceGroups == glanceGroups-1 {
			s.end()
			s.begin()
		}
	}
	return all
}

// snapshot returns the values that t has all the time meanwhile, and perhaps others.
func snapshot[T any](s *Stack, t *table[T]) (all []*T) {
	for range glanceTries {
		if all, ok := snapshotSteps(s, t, glanceGroups); ok {
			return all
		}
	}
	all, _ = snapshotSteps(s, t, 1<<62) // at once: it changes size again and again
	return all
}

// snapshotSteps holds the lock for so many groups at a time. false: the table has changed
// its size meanwhile.
func snapshotSteps[T any](s *Stack, t *table[T], groups int) (all []*T, ok bool) {
	s.begin()
	defer s.end()
	all = make([]*T, 0, t.n+t.n/8)
	cur, old := t.cur, t.old
	same := func() bool { return len(t.cur) == len(cur) && (len(cur) == 0 || &t.cur[0] == &cur[0]) }
	// Values move from old to cur only: in this order none is missed.
	done := 0
	for _, gs := range [...][]group[T]{old, cur} {
		for i := range gs {
			for _, x := range gs[i].slots {
				if x != nil {
					all = append(all, x)
				}
			}
			if done++; done%groups == 0 {
				s.end()
				s.begin()
				if !same() {
					return nil, false
				}
			}
		}
	}
	if len(old) > 0 {
		all = once(all)
	}
	return all, true
}

// once leaves each value of l once: one that has moved was met twice.
func once[T any](l []*T) []*T {
	seen := make(map[*T]bool, len(l))
	kept := l[:0]
	for _, x := range l {
		if !seen[x] {
			seen[x] = true
			kept = append(kept, x)
		}
	}
	return kept
}
