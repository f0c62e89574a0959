package stack

import (
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
	"github.com/onload-go/onload/tcp"
	"github.com/onload-go/onload/udp"
)

// rx is the packet that is being received, and the state of reception. It belongs
// to the holder of the stack lock.
type rx struct {
	pkt    ip.Packet
	seg    tcp.Segment
	repeat ip.Repeat
	handed bool   // pkt came by another stack's queue
	again  bool   // pkt has the headers of the packet before it
	group  bool   // pkt is for sockets that hear a multicast group
	pseudo uint16 // sum of pkt's pseudo-header without the length
	queue  int    // index of the queue that it came by
	on     *link  // that queue's
	udp    udp.Info
	inlet  inlet

	virtual  uint64 // queues of virtual links (driver.Caps), a bit each
	refillAt int    // a queue that lacks this many frames is offered some
	refused  uint64 // segments that belong to nothing
	returned uint64 // packets that the kernel got back, but for fragments
	wave     int    // a turn that is to wake this many goroutines takes no more packets

	batch [rxBatch]ring.Desc
}

// rxBatch is how many Descs a poll turn takes from a queue at once, and at most
// twice that in all: enough for several packets of 64 KiB.
const rxBatch = 256
