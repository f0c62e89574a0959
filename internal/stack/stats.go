package stack

import (
	"sync/atomic"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/tcp"
)

// counters are the stack's own. They are atomic, since readers hold no lock.
type counters struct {
	emptyPolls            atomic.Uint64
	spinHits, spinMisses  atomic.Uint64
	parks, wakes, sits    atomic.Uint64
	shared                atomic.Uint64
	reactorWakes, arms    atomic.Uint64
	rxMalformed           atomic.Uint64
	rxBogus, rxChecksum   atomic.Uint64
	rxFragments           atomic.Uint64
	rxNoSocket            atomic.Uint64
	txFull, txNoRoute     atomic.Uint64
	txResets, kickErrors  atomic.Uint64
	icmpErrors            atomic.Uint64
	detours, detourErrors atomic.Uint64
	inlets, inletErrors   atomic.Uint64
	tcpDials, tcpAccepts  atomic.Uint64
	udpIn, udpOut, udpErr atomic.Uint64
	udpFull, udpScarce    atomic.Uint64
	handOvers, handDrops  atomic.Uint64
	moved, adopted        atomic.Uint64
	moveDrops             atomic.Uint64
}

// Stats are a snapshot of a stack's counters.
type Stats struct {
	Polls, EmptyPolls    uint64 // poll turns, and those that found nothing
	SpinHits, SpinMisses uint64 // waits that spinning ended, and waits that it did not
	Parks, Wakes         uint64 // goroutines put to sleep, and woken by packets
	Sits                 uint64 // times that a goroutine waited for packets itself, asleep
	Shared               uint64 // times that a spin found another thread on its processor
	ReactorWakes, Arms   uint64 // wake-ups of the reactor; times that the queues were armed
	Deferred, Contended  uint64 // work left to the lock's holder; waits for the lock
	RxMalformed          uint64 // packets with bad headers
	RxBogus              uint64 // packets with impossible addresses, or not to us
	RxChecksum           uint64 // transport checksum wrong
	RxFragments          uint64 // IP fragments received
	Fragments            ip.FragStats
	RxNoSocket           uint64 // datagrams to ports that nobody has
	TxFull, TxNoRoute    uint64 // packets kept back by a full ring; dropped for want of a route
	TxUnresolved         uint64 // packets dropped while they waited for a neighbour's address
	Detours              uint64 // packets that left through the kernel, by other links than the stack's
	DetourErrors         uint64 // those that the kernel did not take
	Inlets               uint64 // packets that came through the kernel, by other links than the stack's
	InletErrors          uint64 // those that were lost for want of memory
	InletsWithoutRoom    uint64 // flows whose packets by those links stay the kernel's, of the engine
	ReturnErrors         uint64 // packets that were to go back to the kernel, and were lost
	HandOvers            uint64 // packets given to another stack of the team, which has the flow
	HandOverDrops        uint64 // those that it had no room for
	ConnsMoved           uint64 // connections that another carrier has now
	ConnsAdopted         uint64 // connections that another carrier had before
	MoveDrops            uint64 // packets of connections on their way, more than are kept
	TxResets             uint64 // resets sent for segments that belong to nothing
	KickErrors           uint64
	ICMPErrors           uint64 // about our flows
	TCPDials, TCPAccepts uint64
	UDPIn, UDPOut        uint64 // datagrams
	UDPErrors            uint64 // datagrams dropped: bad length, buffer full, short of memory
	UDPRcvbufErrors      uint64 // datagrams that found the receive buffer full
	UDPMemErrors         uint64 // datagrams for which memory was short
	Conns, TimeWaits     int
	Listeners, UDPs      int
	Orphans              int // connections that go on though the user closed them
	FreeFrames, Frames   int
	TCP                  tcp.Stats
	Queues               []driver.Stats
}

// Stats returns the counters. It changes nothing.
func (s *Stack) Stats() Stats {
	st := s.Counts()
	if s.life.closing.Load() {
		return st
	}
	for _, q := range *s.visible.Load() {
		st.Queues = append(st.Queues, q.Stats())
	}
	return st
}

// Counts is Stats without Queues, whose counters cost system calls.
func (s *Stack) Counts() Stats {
	c := &s.counters
	st := Stats{
		Polls: s.turns.Load(), EmptyPolls: c.emptyPolls.Load(),
		SpinHits: c.spinHits.Load(), SpinMisses: c.spinMisses.Load(),
		Parks: c.parks.Load(), Wakes: c.wakes.Load(), Sits: c.sits.Load(), Shared: c.shared.Load(),
		ReactorWakes: c.reactorWakes.Load(), Arms: c.arms.Load(),
		Deferred: s.lock.Deferred.Load(), Contended: s.lock.Contended.Load(),
		RxMalformed: c.rxMalformed.Load(), RxBogus: c.rxBogus.Load(), RxChecksum: c.rxChecksum.Load(),
		RxFragments: c.rxFragments.Load(), RxNoSocket: c.rxNoSocket.Load(),
		TxFull: c.txFull.Load(), TxNoRoute: c.txNoRoute.Load(), TxResets: c.txResets.Load(),
		Detours: c.detours.Load(), DetourErrors: c.detourErrors.Load(),
		Inlets: c.inlets.Load(), InletErrors: c.inletErrors.Load(),
		KickErrors: c.kickErrors.Load(), ICMPErrors: c.icmpErrors.Load(),
		TCPDials: c.tcpDials.Load(), TCPAccepts: c.tcpAccepts.Load(),
		UDPIn: c.udpIn.Load(), UDPOut: c.udpOut.Load(), UDPErrors: c.udpErr.Load(),
		HandOvers: c.handOvers.Load(), HandOverDrops: c.handDrops.Load(),
		ConnsMoved: c.moved.Load(), ConnsAdopted: c.adopted.Load(), MoveDrops: c.moveDrops.Load(),
		UDPRcvbufErrors: c.udpFull.Load(), UDPMemErrors: c.udpScarce.Load(),
	}
	if in := s.cfg.Inlet; in != nil {
		st.InletsWithoutRoom = in.WithoutRoom()
	}
	s.begin()
	st.Conns, st.TimeWaits = s.demux.flows.len(), s.demux.timeWaits.len()
	st.Listeners, st.UDPs = len(s.demux.listeners), len(s.demux.udps)+len(s.demux.udpFlows)
	st.Orphans = s.host.Orphans()
	st.TxUnresolved = s.dests.unresolved
	st.FreeFrames, st.Frames = s.freeFrames(), s.arena.Frames()
	st.TCP = s.host.Stats
	st.Fragments = s.fragments.Stats
	for _, k := range s.links() {
		if k.returner != nil {
			st.ReturnErrors += k.returner.ReturnErrors()
		}
	}
	s.end()
	return st
}

// LinkStats is Stats, with the queues of one interface only.
func (s *Stack) LinkStats(index int) Stats {
	st := s.Counts()
	k := s.linkOf(index)
	switch {
	case s.life.closing.Load():
		return st
	case k == nil:
		return s.Stats()
	}
	for _, q := range k.queues() {
		st.Queues = append(st.Queues, q.Stats())
	}
	return st
}

// freeFrames returns how many frames nobody uses. The frames that a queue lacks
// count as lent to it: else the number varied with when it was last offered some.
// The lock is held.
func (s *Stack) freeFrames() int {
	n := s.arena.FreeFrames()
	if s.life.closing.Load() {
		return n
	}
	n += s.cache.Len()
	for _, q := range s.queues {
		n -= min(q.Lacks(), n)
	}
	return n
}
