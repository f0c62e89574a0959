package driver

import "github.com/onload-go/onload/ring"

// Tap records the packets that pass through the queues of a Device while a stack
// runs on it. Its methods are called under the stack lock.
type Tap interface {
	// Queues returns the device's queues, in their order, recorded.
	Queues() []Queue
	// Dropped says why the stack dropped a packet that the last RxBatch of a
	// queue gave; f was its first frame.
	Dropped(queue int, f ring.Frame, why string)
	// Done says that the stack has looked at all packets of the last RxBatch.
	Done(queue int)
}

// OpenTaps makes a Tap for each device.
type OpenTaps func([]Device) ([]Tap, error)
