package engine

import (
	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/inlet"
	"github.com/onload-go/onload/internal/stack"
)

// openInlet has packets of our flows that come by other interfaces than the
// engine's taken from the kernel. Without it they are lost, or reset by the kernel.
func (e *Engine) openInlet() {
	var err error
	if e.inlet, err = inlet.Open(e.ns, e.log, e.inject); err != nil {
		e.log.Warn("flows whose packets come by an interface that is not accelerated will break: no socket lookup program", zap.Error(err))
	}
}

// in is the inlet, or nil.
func (e *Engine) in() stack.Inlet {
	if e.inlet == nil {
		return nil // not an interface that holds nil
	}
	return e.inlet
}

// inject gives packets of the inlet to the stack that has their flow, or else to the
// first, which refuses them. One goroutine calls it.
func (e *Engine) inject(ps []inlet.Packet) {
	stacks := e.stacks()
	if len(stacks) == 0 {
		return
	}
	injected := make([]stack.Injected, 0, len(ps))
	var to *stack.Stack
	for i := range ps {
		p := stack.Injected(ps[i])
		if s := ownerOf(stacks, &p); s != to && to != nil {
			to.Inject(injected)
			to, injected = s, injected[:0]
		} else {
			to = s
		}
		injected = append(injected, p)
	}
	to.Inject(injected)
}

func ownerOf(stacks []*stack.Stack, p *stack.Injected) *stack.Stack {
	for _, s := range stacks[1:] {
		if s.Has(p.UDP, p.Local, p.Remote) {
			return s
		}
	}
	return stacks[0]
}
