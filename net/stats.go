package onload

import (
	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/tcp"
)

// Stats are a snapshot of the counters of an accelerated interface. They grow from
// New on, except the numbers at the end, which say what there is now.
type Stats struct {
	Polls, EmptyPolls    uint64       // poll turns, and those that found nothing
	SpinHits, SpinMisses uint64       // waits that spinning ended, and waits that it did not
	Parks, Wakes         uint64       // goroutines put to sleep, and woken by packets
	Sits                 uint64       // times that a goroutine waited for packets itself, asleep
	Shared               uint64       // times that a spin found another thread on its processor
	ReactorWakes, Arms   uint64       // wake-ups of the reactor; times that the queues were armed
	Deferred, Contended  uint64       // work left to the lock's holder; waits for the lock
	RxMalformed          uint64       // packets with bad headers, dropped
	RxBogus              uint64       // packets with impossible addresses, or not to us, dropped
	RxChecksum           uint64       // packets with a wrong transport checksum, dropped
	RxFragments          uint64       // IP fragments received
	Fragments            ip.FragStats // and what became of them
	RxNoSocket           uint64       // datagrams to ports that nobody has, dropped
	TxFull, TxNoRoute    uint64       // packets kept back by a full ring; dropped for want of a route
	TxUnresolved         uint64       // packets dropped while they waited for a neighbour's address
	Detours              uint64       // packets that left through the kernel, by interfaces that are not accelerated
	DetourErrors         uint64       // those that the kernel did not take
	Inlets               uint64       // packets that came through the kernel, by interfaces that are not accelerated
	InletErrors          uint64       // those that were lost for want of memory
	InletsWithoutRoom    uint64       // flows of the engine beyond some 400,000, whose packets by those interfaces are lost
	ReturnErrors         uint64       // packets that were to go back to the kernel (Fragments.Returned, bad headers), and were lost
	HandOvers            uint64       // packets that came by a queue of another stack than has the flow (Config.Stacks)
	HandOverDrops        uint64       // those that it had no room for
	TxResets             uint64       // resets sent for segments that belong to nothing
	KickErrors           uint64       // system calls to send that failed
	ICMPErrors           uint64       // about our flows
	TCPDials, TCPAccepts uint64       // connections opened from here; accepted
	UDPIn, UDPOut        uint64       // datagrams
	UDPErrors            uint64       // datagrams dropped: bad length, buffer full, short of memory
	UDPRcvbufErrors      uint64       // datagrams that found a receive buffer full, also of those from the kernel
	UDPMemErrors         uint64       // datagrams for which packet memory was short, likewise

	// What there is now.
	Conns, TimeWaits   int // TCP connections; those in TIME-WAIT
	Listeners, UDPs    int // bound addresses of TCP listeners; UDP sockets
	Orphans            int // connections that go on though the user closed them
	FreeFrames, Frames int // frames of packet memory that are free; all of them

	TCP    tcp.Stats      // under Linux's names (nstat)
	Queues []driver.Stats // of each queue
}

// Stats returns the counters of every accelerated interface, by name. Interfaces
// share memory and stacks: everything but Queues is the sum of all of them.
func (e *Engine) Stats() map[string]Stats {
	m := map[string]Stats{}
	for name, s := range e.in.Stats() {
		m[name] = Stats(s)
	}
	return m
}
