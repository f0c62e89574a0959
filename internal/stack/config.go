package stack

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/internal/flowtable"
	"github.com/onload-go/onload/ring"
	"github.com/onload-go/onload/tcp"
)

// Config makes a Stack. Links, Arena and Net are required.
//
// A Stack knows queues, not devices: two Stacks may share a device, each with
// queues of its own, and a Stack may have queues of several devices over one
// arena.
type Config struct {
	Links []Link
	Arena *ring.Arena // whose frames the queues carry
	// Close, unless nil, is called when no queue is used any more, also if New
	// fails. If it is nil, others use the arena: the Stack gives its frames back
	// when it closes, and each socket when it is closed.
	Close func() error

	Net   control.Network
	Ports control.Ports // nil: no kernel shares the ports
	Keys  *Keys         // nil: the Stack makes its own
	// Output sends packets whose route leads by other links than Links; nil: they
	// have no way.
	Output Output
	// Inlet is told of flows, and has packets of theirs that come by other links
	// than Links injected; nil: those are lost.
	Inlet Inlet
	// Flows is told of each established connection by links with a kernel, for those
	// who clean up after a process that has died; nil: nobody does.
	Flows *flowtable.Table

	Profile Profile
	Spin    time.Duration // 0: the profile's budget; negative: never spin

	// Called says that the packets come from goroutines of this process, which run
	// the poll turn while nobody polls. The queues are driver.Callers.
	Called bool

	TCP          tcp.Config // defaults of new connections
	MaxOrphans   int        // closed connections that may go on; 0: tcp.DefaultOrphans
	MaxTimeWaits int        // connections in TIME-WAIT; 0: 131072
	Log          *zap.Logger
	Owner        any // what Stack.Owner returns

	team      *team // set by NewTeam
	teamIndex int
}

// Keys are the secrets of initial sequence numbers (RFC 6528) and timestamps
// (RFC 7323, 7.1). Stacks that have the same addresses share them: a connection
// may follow another of the same ports on the other Stack.
type Keys struct {
	ISN, Timestamp [16]byte
}

// Link is an interface that a Stack has queues of.
type Link struct {
	Name     string          // for errors and statistics
	Index    int             // as Config.Net knows it
	Queues   []driver.Queue  // nobody else uses them
	Steering driver.Steering // takes the packets of a port to the queues
	// Host, of a link that no kernel stands behind, is given each frame that is no IP
	// packet, neighbour discovery or a ping, and reports whether it took the frame. It is
	// called under the stack lock, does not wait, and keeps nothing of the frame.
	Host func(frame []byte) bool
	// NoKernel says that no kernel stands behind the link: the stack's sockets are all
	// that hear its multicast groups, and that hear what is sent to them.
	NoKernel bool
}

// Over has the Stack take all of d, whose interface has that index, and close it.
// Devices that share an arena are closed in the opposite order, since the first one
// may own it.
func (c *Config) Over(index int, d driver.Device) {
	c.Links = append(c.Links, Link{Name: d.Name(), Index: index, Queues: d.Queues(), Steering: d})
	c.Arena = d.Arena()
	before := c.Close
	c.Close = func() error {
		err := d.Close()
		if before != nil {
			err = errors.Join(err, before())
		}
		return err
	}
}

// MaxQueues bounds the queues of a stack: sets of them are the bits of a word.
const MaxQueues = 64

// check completes c.
func (c *Config) check() error {
	if len(c.Links) == 0 || c.Arena == nil || c.Net == nil {
		return errors.New("stack: Config without Links, Arena or Net")
	}
	for i := range c.Links {
		if l := &c.Links[i]; len(l.Queues) == 0 || l.Steering == nil {
			return fmt.Errorf("stack: %s has no queues, or no steering", l.Name)
		}
	}
	for _, q := range c.queues() {
		if _, ok := q.(driver.Caller); c.Called && !ok {
			return fmt.Errorf("stack: the queues of %s call nobody", c.name())
		}
	}
	if n := len(c.queues()); n > MaxQueues {
		return fmt.Errorf("stack: %s has %d queues, at most %d can be taken: name them (ONLOAD_QUEUES), or let the interface have fewer (ethtool -L)", c.name(), n, MaxQueues)
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	return nil
}

// queues are those of all links.
func (c *Config) queues() (qs []driver.Queue) {
	for _, l := range c.Links {
		qs = append(qs, l.Queues...)
	}
	return qs
}

// name is that of all links.
func (c *Config) name() string {
	var names []string
	for _, l := range c.Links {
		names = append(names, l.Name)
	}
	return strings.Join(names, ",")
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
		if o.TxRing > 0 { // otherwise it only receives
			c.MaxFrags, c.TSO, c.TSOFrags = min(c.MaxFrags, o.MaxFrags), min(c.TSO, o.TSO), min(c.TSOFrags, o.TSOFrags)
			c.TxCsum = c.TxCsum && o.TxCsum
		}
	}
	return &c
}
