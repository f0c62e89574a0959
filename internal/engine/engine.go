package engine

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/internal/inlet"
	"github.com/onload-go/onload/internal/netns"
	"github.com/onload-go/onload/internal/outside"
	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/ring"
	"github.com/onload-go/onload/tcp"
)

// Engine is a set of accelerated interfaces. Its methods may be called at the
// same time.
type Engine struct {
	cfg      Config
	log      *zap.Logger
	ns       netns.Handle    // zero: the process's own
	net      control.Network // nil: nothing is accelerated
	openNIC  func(address string, arena *ring.Arena) (nic, error)
	static   *control.Static      // the part of net that no kernel knows; nil: there is none
	reserver *control.KernelPorts // of the kernel's ports; nil: no kernel shares them
	mirror   *control.Kernel      // the part of net that the kernel knows; nil with net
	broker   broker
	output   *control.Output // of packets by other interfaces; nil: they have no way
	inlet    *inlet.Inlet    // of packets by other interfaces (in); nil: those are lost
	icmp     *inlet.Errors   // ICMP errors by other interfaces; nil: those are lost
	ifs      []*Interface    // of the start
	keeper   *keeper         // nil: no kernel knows the interfaces
	grown    chan struct{}   // an interface may have more queues, or be gone

	published atomic.Pointer[[]*Interface] // the present ones; nil: ifs
	retiredMu sync.Mutex
	retired   []*stack.Stack // that have lost interfaces
	bound     bound
	hearers   hearers
	nicGroups nicGroups

	rest bool   // the kernel carries all traffic that belongs to none of the interfaces
	none string // why nothing is accelerated, where net is nil

	notes   notes
	watch   *watch // nil: nothing is accelerated, or the link is in memory
	guard   guard
	sockets sockets
	moves   moves
	sharers sharers
	picks   atomic.Uint32 // connections spread over the stacks of a team
	fresh   freshStates
	taps    taps
	buffers udpBuffers

	noticed   sync.Once
	inletOnce sync.Once

	errorsOnce sync.Once
	noOutput   error // why output is nil
	shown      bool  // process.engines has it
	closeOnce  sync.Once
	closeErr   error
}

// New makes an Engine from c alone. It only checks the settings of the environment:
// unknown or invalid ONLOAD_* variables are an error here too.
func New(c Config) (*Engine, error) {
	_, err := ConfigFromEnv()
	if err := errors.Join(err, c.check()); err != nil {
		return nil, err
	}
	return open(c)
}

var defaultEngine struct {
	sync.Mutex
	engine *Engine
	err    error
}

// Default returns the process's own engine. It is made from the ONLOAD_* variables
// on first use and never closed. If that fails, the error is kept.
func Default() (*Engine, error) {
	d := &defaultEngine
	d.Lock()
	defer d.Unlock()
	if d.engine == nil && d.err == nil {
		var c Config
		if c, d.err = ConfigFromEnv(); d.err == nil {
			d.engine, d.err = open(c)
		}
	}
	return d.engine, d.err
}

// Idle returns an engine that has no interface, whatever the environment asks for: why
// says who has them. Settings of the environment that are wrong are an error.
func Idle(why string) (*Engine, error) {
	c, err := ConfigFromEnv()
	if err != nil {
		return nil, err
	}
	c.Interfaces, c.NetNS = nil, ""
	e, err := open(c)
	if err == nil {
		e.none = why
	}
	return e, err
}

func newEngine(c Config) *Engine {
	e := &Engine{cfg: c, log: c.Logger, grown: make(chan struct{}, 1)}
	if e.log == nil {
		e.log = newLogger(zap.WarnLevel)
	}
	e.hearers.k, e.hearers.log = e, e.log
	e.openNIC = e.openPCI
	return e
}

// open makes the engine that c asks for. c is valid. What it makes is no bubble's
// (testing/synctest), whoever has it made.
func open(c Config) (e *Engine, err error) {
	outside.Do(func() { e, err = openHere(c) })
	return e, err
}

func openHere(c Config) (_ *Engine, err error) {
	e := newEngine(c)
	e.rest = true
	defer func() {
		if err != nil {
			_ = e.Close()
		}
	}()
	if c.NetNS != "" {
		if e.ns, err = netns.Open(c.NetNS); err != nil {
			return nil, fmt.Errorf("onload: Config.NetNS (ONLOAD_NETNS): %w", err)
		}
	}
	switch {
	case len(c.Interfaces) == 0:
		e.none = noInterface
		return e, nil
	case c.Interfaces[0] == noInterfaces:
		e.none = askedForNone
		return e, nil
	}
	if err = e.openInterfaces(); err != nil {
		return nil, err
	}
	if e.net != nil {
		if len(e.stacks()) > 0 {
			e.openErrors()
		}
		e.noteTaken()
		e.keep()
		e.startWatch()
	}
	e.show()
	return e, nil
}

// Close resets the accelerated connections, closes the accelerated listeners
// and UDP sockets, the kernel's part of them included, and gives the interfaces
// back to the kernel.
func (e *Engine) Close() error {
	e.closeOnce.Do(func() {
		e.hide()
		e.watch.close()
		e.keeper.close()
		e.sockets.close()
		e.hearers.close()
		for _, i := range e.ifs {
			i.host.close() // it sends by the stacks
		}
		e.stopForwarding()
		errs := []error{stack.CloseAll(e.stacks()...), e.broker.close(), e.guard.close()}
		if e.inlet != nil {
			errs = append(errs, e.inlet.Close())
		}
		if e.icmp != nil {
			errs = append(errs, e.icmp.Close())
		}
		if e.net != nil {
			errs = append(errs, e.net.Close())
		}
		if e.reserver != nil {
			errs = append(errs, e.reserver.Close())
		}
		if e.output != nil {
			errs = append(errs, e.output.Close())
		}
		errs = append(errs, e.ns.Close())
		e.closeErr = errors.Join(errs...)
	})
	return e.closeErr
}

// Accelerates reports whether anything at all may be accelerated. If not, the
// kernel carries everything.
func (e *Engine) Accelerates() bool { return e.net != nil }

// Log returns the log of the control path.
func (e *Engine) Log() *zap.Logger { return e.log }

// OwnNS reports whether the engine works in a network namespace that is not simply
// the process's own.
func (e *Engine) OwnNS() bool { return !e.ns.IsZero() }

// InNS calls fn inside the engine's network namespace, on one thread. Its error
// is fn's, or one of entering the namespace: os.ErrClosed after Close.
func (e *Engine) InNS(fn func() error) error { return e.ns.Do(fn) }

// TCP returns the configuration of new TCP connections.
func (e *Engine) TCP() tcp.Config { return e.cfg.tcp() }

// out is output, or nil.
func (e *Engine) out() stack.Output {
	if e.output == nil {
		return nil // not an interface that holds nil
	}
	return e.output
}

// ports are those that a kernel shares, or nil.
func (e *Engine) ports() control.Ports {
	if e.reserver == nil {
		return nil // not an interface that holds nil
	}
	return e.reserver
}
