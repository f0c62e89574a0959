package stack

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/ring"
	"github.com/onload-go/onload/tcp"
)

// Config makes a Stack. Queues, Arena, Steering and Net are required.
//
// A Stack knows queues, not devices: two Stacks may share a device, each with
// queues of its own, and a Stack may have queues of two devices with one arena.
type Config struct {
	Name string // of the interface, for errors and statistics
	Link int    // its index, as Net knows it

	Queues   []driver.Queue  // nobody else uses them
	Arena    *ring.Arena     // whose frames the queues carry
	Steering driver.Steering // takes the packets of a port to the queues
	// Close, unless nil, is called when no queue is used any more, also where New
	// fails. Where it is nil, others use the arena: the Stack gives its frames
	// back when it closes, and each socket when it is closed.
	Close func() error

	Net   control.Network
	Ports control.Ports // nil: no kernel shares the ports
	Keys  *Keys         // nil: the Stack makes its own

	Profile Profile
	Spin    time.Duration // 0: the profile's budget; negative: never spin

	TCP          tcp.Config // defaults of new connections
	MaxOrphans   int        // closed connections that may go on; 0: tcp.DefaultOrphans
	MaxTimeWaits int        // connections in TIME-WAIT; 0: 131072
	Log          *zap.Logger
}

// Keys are the secrets of initial sequence numbers (RFC 6528) and timestamps
// (RFC 7323, 7.1). Stacks that have the same addresses share them: a connection
// may follow another of the same ports on the other Stack.
type Keys struct {
	ISN, Timestamp [16]byte
}

// Over has the Stack take all of d, and close it.
func (c *Config) Over(d driver.Device) {
	c.Queues, c.Arena, c.Steering, c.Close = d.Queues(), d.Arena(), d, d.Close
}

// MaxQueues bounds the queues of a stack: sets of them are the bits of a word.
const MaxQueues = 64

// check completes c.
func (c *Config) check() error {
	if c.Arena == nil || c.Steering == nil || c.Net == nil {
		return errors.New("stack: Config without Arena, Steering or Net")
	}
	switch n := len(c.Queues); {
	case n == 0:
		return fmt.Errorf("stack: %s has no queue", c.Name)
	case n > MaxQueues:
		return fmt.Errorf("stack: %s has %d queues, at most %d can be taken: name them (ONLOAD_QUEUES), or let the interface have fewer (ethtool -L)", c.Name, n, MaxQueues)
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	return nil
}

func (c *Config) close() error {
	if c.Close == nil {
		return nil
	}
	return c.Close()
}

// commonCaps returns what all of the queues can do.
func commonCaps(qs []driver.Queue) *driver.Caps {
	c := *qs[0].Caps()
	for _, q := range qs[1:] {
		o := q.Caps()
		c.MTU, c.RxRing = min(c.MTU, o.MTU), min(c.RxRing, o.RxRing)
		c.ZeroCopy = c.ZeroCopy && o.ZeroCopy
		c.EdgesFree = c.EdgesFree && o.EdgesFree
		if o.TxRing > 0 { // else it only receives
			c.MaxFrags, c.TSO, c.TSOFrags = min(c.MaxFrags, o.MaxFrags), min(c.TSO, o.TSO), min(c.TSOFrags, o.TSOFrags)
			c.TxCsum = c.TxCsum && o.TxCsum
		}
	}
	return &c
}
