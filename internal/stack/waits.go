package stack

import (
	"sync/atomic"

	"github.com/onload-go/onload/ring"
)

// waits is how goroutines wait for packets: which of them polls, which sits at the
// queues, and how long a wait may spin. Atomic fields are read without the stack
// lock; armed, spinNow and sharedUntil are written only under it. breath, led
// and sharing belong to the leader, policy, work and limits to the holder of the stack
// lock. The seat and the reactor document their own fields.
type waits struct {
	spin int64 // longest spin, ns; does not change

	leader      atomic.Bool // a goroutine spins
	led         uint64      // stacks of the team that the leader polls too, a bit each
	armed       atomic.Bool // packets wake the reactor
	successor   atomic.Pointer[waiter]
	successorAt atomic.Int64 // since when it waits, ns
	seat        *seat        // nil: nobody waits at the queues asleep
	breath      breath
	sharing     sharing
	limits      limits
	spinNow     atomic.Int64 // policy's budget, ns
	sharedUntil atomic.Int64 // policy's, ns
	woken       atomic.Int32 // goroutines that were woken and do not run yet
	away        atomic.Bool  // a goroutine that takes packets gave way, and none has run since

	called  bool          // armed queues run a poll turn when packets arrive; does not change
	arrival ring.Work     // that turn, left for the holder of the stack lock
	parked  atomic.Int32  // goroutines parked for packets of this process; not those in Accept
	vain    atomic.Uint32 // spins, and waits without one, since a spin found a packet

	work    int64   // bytes received and sent
	policy  *policy // of the profile balanced, else nil
	reactor reactor
}
