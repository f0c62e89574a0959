package driver

import "github.com/onload-go/onload/ring"

// Tap records the packets of one stack. Its methods are called under the stack lock, so
// they must not wait.
type Tap interface {
	// Received has the packets that a queue gave in one batch. The Descs and their
	// frames are the caller's.
	Received(at *TapPoint, ds []ring.Desc)
	// Sent has the packets that a queue took in one batch. Checksums that the device
	// completes, and packets that it segments, are as they were handed to it.
	Sent(at *TapPoint, ds []ring.Desc)
	// Dropped says why the stack dropped a packet of the last Received; f was its first
	// frame.
	Dropped(f ring.Frame, why string)
	// Done says that the stack has looked at all packets of the last Received.
	Done()
}

// TapPoint is a queue that is recorded.
type TapPoint struct {
	Interface string // name
	Number    int    // of the interface: from 0 on, in the order in which the taps met them
	Queue     int    // number of the queue
	Arena     *ring.Arena
}

// OpenTap makes the Tap of a stack; interfaces are the names of those that are known, by
// their number. Stacks that come later have it called too.
type OpenTap func(interfaces []string) (Tap, error)

// Reasons of Tap.Dropped that programs look for.
const (
	// DropNoSocket is for packets to ports of ours that belong to no connection,
	// listener or socket.
	DropNoSocket = "no socket"
	// DropReturned is for packets that the kernel gets after all.
	DropReturned = "given back to the kernel"
)
