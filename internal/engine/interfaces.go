package engine

import (
	"errors"
	"fmt"
	"syscall"

	"go.uber.org/zap"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/internal/stack"
)

// Interface is one that the engine was told to accelerate.
type Interface struct {
	Name   string
	Index  int           // of the link; 0: there is none
	Stack  *stack.Stack  // nil: see Err
	Device driver.Device // the Stack's
	Err    error         // why it could not be opened
	Kernel bool          // a kernel stands behind it: the link and its addresses are the kernel's too
}

// err is why the interface carries nothing, or nil.
func (i *Interface) err() error {
	if i.Stack == nil {
		return i.Err
	}
	return i.Stack.Err()
}

// openInterfaces takes the interfaces of the configuration.
func (e *Engine) openInterfaces() error {
	if err := e.openControl(); err != nil {
		if !e.cfg.Fallback {
			return err
		}
		// A sandbox without netlink, for instance.
		e.none = err.Error()
		e.log.Warn("nothing is accelerated", zap.Error(err))
		return nil
	}
	if e.cfg.Interfaces[0] == autoInterfaces {
		return e.openAuto()
	}
	var errs []error
	for _, name := range e.cfg.Interfaces {
		i := &Interface{Name: name, Kernel: true}
		e.ifs = append(e.ifs, i)
		wrong := false
		if l, ok := linkNamed(e.net.Links(), name); !ok {
			i.Err = fmt.Errorf("no such interface: %w", syscall.ENODEV)
		} else {
			i.Index = l.Index
			i.Err, wrong = nameSetting(e.openStack(i, l, e.cfg.Mode))
		}
		switch {
		case i.Err == nil:
		case e.cfg.Fallback && !wrong:
			e.log.Warn("interface is left to the kernel", zap.String("interface", name), zap.Error(i.Err))
		default:
			errs = append(errs, fmt.Errorf("onload: interface %s: %w", name, i.Err))
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
	e.net = mirror
	return nil
}

// openAuto takes every interface that is up, carries packets of its own, and
// whose driver runs XDP natively. It finds that out by trying. A setting that no
// interface can have is an error.
func (e *Engine) openAuto() error {
	var errs []error
	for _, l := range e.net.Links() {
		if !l.Up || l.Loopback || l.Master != 0 || l.VLAN != 0 {
			continue
		}
		mode := e.cfg.Mode
		if mode == ModeAuto && l.Kind == "device" {
			mode = ModeNative
		}
		i := &Interface{Name: l.Name, Index: l.Index, Kernel: true}
		wrong := false
		i.Err, wrong = nameSetting(e.openStack(i, l, mode))
		if i.Err != nil {
			e.log.Info("interface is left to the kernel", zap.String("interface", l.Name), zap.Error(i.Err))
		}
		if wrong {
			errs = append(errs, fmt.Errorf("onload: interface %s: %w", l.Name, i.Err))
		}
		e.ifs = append(e.ifs, i)
	}
	if len(e.working()) > 0 {
		return nil
	}
	if len(errs) == 0 {
		e.log.Warn("nothing is accelerated: no interface runs XDP natively", zap.String("because", e.whyNone()))
	}
	return errors.Join(errs...)
}

// openStack takes one link of the kernel's, for i.
func (e *Engine) openStack(i *Interface, l control.Link, mode Mode) error {
	dev, err := e.openDevice(l, mode)
	if err != nil {
		return err
	}
	c := e.stackConfig()
	c.Name, c.Link = l.Name, l.Index
	c.Over(dev)
	s, err := stack.New(c)
	if err != nil {
		return err
	}
	i.Stack, i.Device = s, dev
	if e.log.Core().Enabled(zap.DebugLevel) {
		for _, a := range e.advice(i) {
			e.log.Debug("advice", zap.String("interface", l.Name), zap.String("is", a))
		}
	}
	return nil
}
