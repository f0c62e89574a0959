package onload

import (
	"reflect"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/tcp"
)

// Stats are a snapshot of the counters of an accelerated interface. Counters (uint64)
// grow from New on; the numbers of type int say what there is now. Each field's help
// tag is its meaning, which Each passes on.
type Stats struct {
	Polls             uint64       `help:"poll turns"`
	EmptyPolls        uint64       `help:"poll turns that found nothing"`
	SpinHits          uint64       `help:"waits that spinning ended"`
	SpinMisses        uint64       `help:"waits that spinning did not end"`
	Parks             uint64       `help:"goroutines put to sleep"`
	Wakes             uint64       `help:"goroutines woken by packets"`
	Sits              uint64       `help:"times that a goroutine waited for packets itself, asleep"`
	Shared            uint64       `help:"times that a spin found another thread on its processor"`
	ReactorWakes      uint64       `help:"wake-ups of the reactor"`
	Arms              uint64       `help:"times that the queues were armed"`
	Deferred          uint64       `help:"work left to the lock's holder"`
	Contended         uint64       `help:"waits for the lock"`
	RxMalformed       uint64       `help:"packets with bad headers, dropped"`
	RxBogus           uint64       `help:"packets with impossible addresses, or not to us, dropped"`
	RxChecksum        uint64       `help:"packets with a wrong transport checksum, dropped"`
	RxFragments       uint64       `help:"IP fragments received"`
	Fragments         ip.FragStats // and what became of them
	RxNoSocket        uint64       `help:"datagrams to ports that nobody has, dropped"`
	TxFull            uint64       `help:"packets kept back by a full ring"`
	TxNoRoute         uint64       `help:"packets dropped for want of a route"`
	TxUnresolved      uint64       `help:"packets dropped while they waited for a neighbour's address"`
	Detours           uint64       `help:"packets that left through the kernel, by interfaces that are not accelerated"`
	DetourErrors      uint64       `help:"packets by interfaces that are not accelerated that the kernel did not take"`
	Inlets            uint64       `help:"packets that came through the kernel, by interfaces that are not accelerated"`
	InletErrors       uint64       `help:"packets by interfaces that are not accelerated that were lost for want of memory"`
	InletsWithoutRoom uint64       `help:"flows of the engine beyond some 400,000, whose packets by interfaces that are not accelerated are lost"`
	ReturnErrors      uint64       `help:"packets that were to go back to the kernel (Fragments.Returned, bad headers), and were lost"`
	HandOvers         uint64       `help:"packets that came by a queue of another stack than has the flow (Config.Stacks)"`
	HandOverDrops     uint64       `help:"packets for another stack that had no room for them, dropped"`
	ConnsMoved        uint64       `help:"TCP connections handed over to another carrier, such as the kernel"`
	ConnsAdopted      uint64       `help:"TCP connections taken over from another carrier"`
	MoveDrops         uint64       `help:"packets of connections that changed hands, more than are kept meanwhile, dropped"`
	TxResets          uint64       `help:"resets sent for segments that belong to nothing"`
	KickErrors        uint64       `help:"system calls to send that failed"`
	ICMPErrors        uint64       `help:"ICMP errors about our flows"`
	TCPDials          uint64       `help:"TCP connections opened from here"`
	TCPAccepts        uint64       `help:"TCP connections accepted"`
	UDPIn             uint64       `help:"datagrams received"`
	UDPOut            uint64       `help:"datagrams sent"`
	UDPErrors         uint64       `help:"datagrams dropped: bad length, buffer full, short of memory"`
	UDPRcvbufErrors   uint64       `help:"datagrams that found a receive buffer full, also of those from the kernel"`
	UDPMemErrors      uint64       `help:"datagrams for which packet memory was short, also of those from the kernel"`

	// What there is now.
	Conns      int `help:"TCP connections"`
	TimeWaits  int `help:"TCP connections in TIME-WAIT"`
	Listeners  int `help:"bound addresses of TCP listeners"`
	UDPs       int `help:"UDP sockets"`
	Orphans    int `help:"TCP connections that go on though the user closed them"`
	FreeFrames int `help:"frames of packet memory that are free"`
	Frames     int `help:"frames of packet memory"`

	TCP    tcp.Stats      // under Linux's names (nstat)
	Queues []driver.Stats // of each queue
}

// Each calls f for every number but those of Queues, with its meaning. A name is the
// field's, such as Polls, Fragments.Whole or TCP.ListenDrops. now reports whether it
// says what there is now; otherwise it is a counter.
func (s *Stats) Each(f func(name, help string, now bool, n uint64)) {
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		t := v.Type().Field(i)
		switch t.Type.Kind() {
		case reflect.Uint64:
			f(t.Name, t.Tag.Get("help"), false, v.Field(i).Uint())
		case reflect.Int:
			f(t.Name, t.Tag.Get("help"), true, uint64(v.Field(i).Int()))
		}
	}
	s.Fragments.Each(func(name, help string, n uint64) { f("Fragments."+name, help, false, n) })
	s.TCP.Each(func(name, help string, n uint64) { f("TCP."+name, help, false, n) })
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
