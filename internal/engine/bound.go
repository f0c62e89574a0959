package engine

import (
	"errors"
	"net/netip"
	"sync"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/event"
	"github.com/onload-go/onload/internal/stack"
)

// shardable is a bound socket, which may get shards while it lives.
type shardable interface {
	boundTo() netip.Addr // an address, a wildcard or unset
	join(s *stack.Stack) error
	steer() error // has the packets come to all of its shards
}

// joinAll gives x shards on all stacks, and only then has packets come to them. Stacks
// of a team have a device in common: the first one's steering brings packets to the
// queues of the others too, and one without a shard would refuse them.
func joinAll(x shardable, ss []*stack.Stack) error {
	for _, s := range ss {
		if err := x.join(s); err != nil {
			return err
		}
	}
	return x.steer()
}

// steerAll steers for all shards, unless they have done so already. A shard that fails
// does not keep others from it. The error is the first one.
func steerAll[T interface{ Steer() error }](shards []T) (first error) {
	for _, s := range shards {
		if err := s.Steer(); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// bound are the engine's listeners and bound sockets.
type bound struct {
	mu  sync.Mutex
	all map[shardable]bool
}

func (b *bound) add(e *Engine, x shardable) {
	b.mu.Lock()
	if b.all == nil {
		b.all = map[shardable]bool{}
	}
	b.all[x] = true
	b.mu.Unlock()
	e.spread(x) // an interface may have been taken since the caller looked
}

func (b *bound) remove(x shardable) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.all, x)
}

// join gives all sockets shards on the stacks that have come.
func (b *bound) join(e *Engine) {
	b.mu.Lock()
	var all []shardable
	for x := range b.all {
		all = append(all, x)
	}
	b.mu.Unlock()
	for _, x := range all {
		e.spread(x)
	}
}

// spread gives x shards on all stacks that receive for its address.
func (e *Engine) spread(x shardable) {
	const nothing = "a bound socket gets nothing by an interface"
	at := zap.Stringer("address", x.boundTo())
	for _, s := range e.Shards(AnyFamily, x.boundTo()).Stacks {
		if err := x.join(s); err != nil {
			e.log.Warn(nothing, event.SocketDeaf.Field(), zap.String("interface", s.Name()), at, zap.Error(err))
		}
	}
	if err := x.steer(); err != nil && !errors.Is(err, stack.ErrClosed) { // the engine closes
		e.log.Warn(nothing, event.SocketDeaf.Field(), at, zap.Error(err))
	}
}
