package stack

import (
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/tcp"
)

// team is stacks over the same links: each has queues of its own on every link, and
// a lock, a leader and a reactor of its own. Addresses, ports and the arena are
// common. A flow belongs to one of them. A packet that comes by a queue of another
// one is handed over to it (handover.go), as by the kernel's RPS.
type team struct {
	stacks  atomic.Pointer[[]*Stack] // nil: not all are made, and no packet is handed over
	flows   owners
	began   handshakes
	devices brought
	opens   tcp.ServerCookies // of Fast Open
	twins   atomic.Bool       // as demux.twins
	left    leaving
	// spreads has, by the index of the link, how its device spreads flows. A map does
	// not change.
	spreads atomic.Pointer[map[int]*spread]
	n       int // stacks; does not change

	mu     sync.Mutex
	open   int // stacks that are not closed
	close  func() error
	closed atomic.Bool // and so are the devices
}

// mates is what a stack of a team has of the others. Only in is not under the stack
// lock.
type mates struct {
	team  *team  // nil: the stack is alone
	index int    // among the team's stacks
	due   uint64 // stacks that this section has given packets to, a bit each
	in    inbox
}

// NewTeam starts n stacks over the links of c. The i-th one gets queue i of each
// link, queue i+n, and so on. The limits of c, and those on memory and on descriptors,
// hold for all of them together: each has an equal part. It calls c.Close when the last
// one closes, and also when it fails. A link with fewer queues than n is a
// driver.SettingError.
func NewTeam(c Config, n int) ([]*Stack, error) {
	if n <= 1 {
		s, err := New(c)
		if err != nil {
			return nil, err
		}
		return []*Stack{s}, nil
	}
	for i := range c.Links {
		if err := c.Links[i].enough(n); err != nil {
			_ = c.close()
			return nil, err
		}
	}
	t := &team{n: n, open: n, close: c.Close}
	t.spreadOver(c.Links...)
	t.flows.init()
	if c.Keys == nil {
		c.Keys = newKeys()
	}
	var all []*Stack
	for i := range n {
		s, err := New(c.part(t, i, n))
		if err != nil {
			for _, s := range all {
				_ = s.Close()
			}
			for range n - 1 - i {
				_ = t.leave() // those that are not made
			}
			return nil, err
		}
		all = append(all, s)
	}
	t.stacks.Store(&all)
	return all, nil
}

// part is the configuration of the i-th of n stacks.
func (c Config) part(t *team, i, n int) Config {
	var links []Link
	for _, l := range c.Links {
		links = append(links, l.part(i, n))
	}
	c.Links, c.Close = links, t.leave
	c.team, c.teamIndex = t, i
	c.MaxOrphans = partOf(c.MaxOrphans, tcp.DefaultOrphans, n)
	c.MaxTimeWaits = partOf(c.MaxTimeWaits, maxTimeWaits, n)
	return c
}

// part is what the i-th of n stacks has of the link.
func (l Link) part(i, n int) Link {
	var own []driver.Queue
	for q := i; q < len(l.Queues); q += n {
		own = append(own, l.Queues[q])
	}
	l.Queues = own
	return l
}

// enough returns why the link cannot have a team of n stacks, or nil.
func (l *Link) enough(n int) error {
	if len(l.Queues) >= n {
		return nil
	}
	err := fmt.Errorf("%d stacks want a queue of %s each, which has %d (ethtool -L)", n, l.Name, len(l.Queues))
	return &driver.SettingError{Field: "Stacks", Err: err}
}

// spreadOver notes how the devices of links spread flows. Only one goroutine at a time
// calls it.
func (t *team) spreadOver(links ...Link) {
	all := map[int]*spread{}
	if p := t.spreads.Load(); p != nil {
		all = maps.Clone(*p)
	}
	for i := range links {
		all[links[i].Index] = newSpread(&links[i], t.n)
	}
	t.spreads.Store(&all)
}

// stacks is how many stacks share the arena, and the descriptors of the process.
func (c *Config) stacks() int {
	if c.team == nil {
		return 1
	}
	return c.team.n
}

// partOf is the n-th part of a limit, at least 1; 0 stands for byDefault.
func partOf(limit, byDefault, n int) int {
	if limit <= 0 {
		limit = byDefault
	}
	return max(limit/n, 1)
}

// leave is called by each stack that has closed. The last one closes the devices.
func (t *team) leave() error {
	t.mu.Lock()
	t.open--
	last := t.open == 0
	if last {
		t.closed.Store(true)
	}
	t.mu.Unlock()
	if !last || t.close == nil {
		return nil
	}
	return errors.Join(t.devices.closeAll(), t.close())
}

func newKeys() *Keys {
	k := &Keys{}
	_, _ = rand.Read(k.ISN[:]) // never fails since Go 1.24
	_, _ = rand.Read(k.Timestamp[:])
	return k
}

// mate returns the team's stack with that index; nil: the team is not complete.
func (t *team) mate(i int) *Stack {
	all := t.stacks.Load()
	if all == nil {
		return nil
	}
	return (*all)[i]
}

// team returns all stacks of s's team, or s.
func (s *Stack) team() []*Stack {
	if t := s.demux.mates.team; t != nil {
		if all := t.stacks.Load(); all != nil {
			return *all
		}
	}
	return []*Stack{s}
}

// size is the number of stacks; 0: the team is not complete.
func (t *team) size() int {
	if all := t.stacks.Load(); all != nil {
		return len(*all)
	}
	return 0
}
