package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"go.uber.org/zap"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/internal/event"
	"github.com/onload-go/onload/internal/stack"
)

// Interface is one that the engine was told to accelerate.
type Interface struct {
	Name   string
	Index  int            // of the link; 0: there is none
	Stacks []*stack.Stack // each spans this interface and others, by queues of its own; none: see Err
	Device driver.Device  // the interface's, which the Stacks have
	Err    error          // why it could not be opened
	Kernel bool           // a kernel stands behind it: the link and its addresses are the kernel's too
	host   *linkHost      // where none does, and the interface answers for itself; else nil
}

// err is why the interface carries nothing, or nil.
func (i *Interface) err() error {
	if len(i.Stacks) == 0 {
		return i.Err
	}
	for _, s := range i.Stacks {
		if err := s.LinkErr(i.Index); err != nil {
			return err
		}
	}
	return nil
}

// first is the Stack that stands for all of the interface's, which steer alike; nil:
// there is none.
func (i *Interface) first() *stack.Stack {
	if len(i.Stacks) == 0 {
		return nil
	}
	return i.Stacks[0]
}

// missing is why some of the interface's queues are the kernel's, or "".
func (i *Interface) missing() string {
	if g, ok := i.Device.(driver.Grower); ok {
		return g.Missing()
	}
	return ""
}

// openInterfaces takes the interfaces of the configuration.
func (e *Engine) openInterfaces() error {
	if err := e.openControl(); err != nil {
		if !e.cfg.Fallback {
			return err
		}
		// A sandbox without netlink, for instance.
		e.none = err.Error()
		e.log.Warn("nothing is accelerated", event.NothingTaken.Field(), zap.String("reason", err.Error()))
		return nil
	}
	if e.cfg.Interfaces[0] == autoInterfaces {
		return e.openAuto()
	}
	o := opener{e: e, ctx: context.Background(), sharers: len(e.cfg.Interfaces)}
	for _, name := range e.cfg.Interfaces {
		tap := e.cfg.staticOf(name).tap
		i := &Interface{Name: name, Kernel: !isPCI(name) || tap != ""}
		e.ifs = append(e.ifs, i)
		if tap != "" {
			i.Err = o.openWithTAP(i, tap)
		} else if !i.Kernel {
			i.Index = control.FirstStatic + len(e.ifs)
			i.Err = o.openStatic(i)
		} else if l, ok := linkNamed(e.net.Links(), name); !ok {
			i.Err = fmt.Errorf("no such interface: %w", syscall.ENODEV)
		} else {
			i.Index = l.Index
			i.Err = o.open(i, l, e.cfg.Mode)
		}
	}
	o.makeStacks()
	e.forward()
	e.settle()
	var errs []error
	for _, i := range e.ifs {
		wrong := false
		i.Err, wrong = nameSetting(i.Err)
		switch {
		case i.Err == nil:
		case e.cfg.Fallback && !wrong:
			e.log.Warn("interface is left to the kernel", event.InterfaceRefused.Field(), zap.String("interface", i.Name), zap.Error(i.Err))
		default:
			errs = append(errs, fmt.Errorf("onload: interface %s: %w", i.Name, i.Err))
		}
	}
	return errors.Join(errs...)
}

// openControl starts the mirror of the kernel's links, addresses and routes.
func (e *Engine) openControl() error {
	mirror, err := control.NewKernel(e.ns, e.log)
	if err != nil {
		return fmt.Errorf("onload: netlink: %w", err)
	}
	if e.reserver, err = control.NewKernelPorts(e.ns); err != nil {
		return errors.Join(fmt.Errorf("onload: ports: %w", err), mirror.Close())
	}
	e.output, e.noOutput = control.OpenOutput(e.ns, mirror)
	e.net, e.mirror = mirror, mirror
	if slices.ContainsFunc(e.cfg.Interfaces, isPCI) {
		e.static = control.NewStatic()
		e.static.OnResolve, e.static.OnConfirm, e.static.OnDoubt = e.askHost, e.confirmHost, e.doubtHost
		e.net = control.Join(mirror, e.static)
		e.reserver.Free = func(a netip.Addr) bool { _, ok := e.static.Local(a); return ok }
	}
	return nil
}

// fits reports whether "auto" may take l: it is up, and carries packets of its own.
func fits(l control.Link) bool {
	return !l.Static && l.Up && !l.Loopback && l.Master == 0 && l.VLAN == 0
}

// modeOf is the mode in which l is opened. "auto" takes hardware only where XDP
// runs natively.
func (e *Engine) modeOf(l control.Link) Mode {
	if e.cfg.Interfaces[0] == autoInterfaces && e.cfg.Mode == ModeAuto && l.Kind == "device" {
		return ModeNative
	}
	return e.cfg.Mode
}

// openAuto takes every interface that is up, carries packets of its own, and whose
// driver runs XDP natively. It finds out by trying. A setting that no interface can
// have is an error.
func (e *Engine) openAuto() error {
	links := slices.DeleteFunc(e.net.Links(), func(l control.Link) bool { return !fits(l) })
	o := opener{e: e, ctx: context.Background(), sharers: len(links)}
	for _, l := range links {
		i := &Interface{Name: l.Name, Index: l.Index, Kernel: true}
		i.Err = o.open(i, l, e.modeOf(l))
		e.ifs = append(e.ifs, i)
	}
	o.makeStacks()
	var errs []error
	for _, i := range e.ifs {
		wrong := false
		i.Err, wrong = nameSetting(i.Err)
		if i.Err != nil {
			e.log.Info("interface is left to the kernel", event.InterfaceRefused.Field(), zap.String("interface", i.Name), zap.Error(i.Err))
		}
		if wrong {
			errs = append(errs, fmt.Errorf("onload: interface %s: %w", i.Name, i.Err))
		}
	}
	if len(e.working()) > 0 {
		return nil
	}
	if len(errs) == 0 {
		e.log.Warn("nothing is accelerated: no interface runs XDP natively", event.NothingTaken.Field(), zap.String("reason", e.whyNone()))
	}
	return errors.Join(errs...)
}
