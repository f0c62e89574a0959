package engine

import (
	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/event"
	"github.com/onload-go/onload/internal/inlet"
	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/ip"
)

// openErrors has the stacks receive the kernel's ICMP errors. It is called when there is
// a stack: without one there are no flows, and no privileges are missed.
func (e *Engine) openErrors() {
	e.errorsOnce.Do(func() {
		var err error
		if e.icmp, err = inlet.OpenErrors(e.ns, e.log, e.injectError); err != nil {
			e.log.Warn("ICMP errors that come by an interface that is not accelerated will be lost: no raw socket (CAP_NET_RAW)", event.NoICMP.Field(), zap.Error(err))
		}
		if e.noOutput != nil {
			e.log.Warn("flows whose route moves to an interface that is not accelerated will not go on: no raw socket (CAP_NET_RAW)", event.NoDetour.Field(), zap.Error(e.noOutput))
		}
	})
}

// in is the inlet, or nil. The first stack has it opened: where nothing is
// accelerated, there is none. It takes packets of our flows that come by other
// interfaces than the engine's from the kernel, which would reset them.
func (e *Engine) in() stack.Inlet {
	e.inletOnce.Do(func() {
		if e.reserver == nil { // no kernel
			return
		}
		in, err := inlet.Open(e.ns, e.log)
		if err != nil {
			e.log.Warn("flows whose packets come by an interface that is not accelerated will break: no socket lookup program", event.NoInlet.Field(), zap.Error(err))
			return
		}
		in.Start(e.inject) // not before there are flows, so after the start
		e.inlet = in
	})
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

// injectError gives an ICMP error to the stack that has the flow.
func (e *Engine) injectError(icmp *ip.ICMPError) {
	for _, s := range e.stacks() {
		if s.InjectError(icmp) {
			return
		}
	}
}

func ownerOf(stacks []*stack.Stack, p *stack.Injected) *stack.Stack {
	for _, s := range stacks[1:] {
		if s.Has(p.UDP, p.Local, p.Remote) {
			return s
		}
	}
	return stacks[0]
}
