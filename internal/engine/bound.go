package engine

import (
	"net/netip"
	"sync"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/stack"
)

// shardable is a bound socket, which may get shards while it lives.
type shardable interface {
	boundTo() netip.Addr // an address, a wildcard or unset
	join(s *stack.Stack) error
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
	for _, s := range e.Shards(AnyFamily, x.boundTo()).Stacks {
		if err := x.join(s); err != nil {
			e.log.Warn("a bound socket gets nothing by an interface", zap.String("interface", s.Name()),
				zap.Stringer("address", x.boundTo()), zap.Error(err))
		}
	}
}
