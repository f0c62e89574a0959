package onload

import (
	"errors"
	"fmt"
	"strconv"
	"syscall"

	"go.uber.org/zap"

	"github.com/onload-go/onload/driver/afxdp"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/internal/stack"
)

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
		e.openAuto()
		return nil
	}
	byName := map[string]control.Link{}
	for _, l := range e.net.Links() {
		byName[l.Name] = l
	}
	var errs []error
	for _, name := range e.cfg.Interfaces {
		i := &iface{name: name}
		e.ifs = append(e.ifs, i)
		if l, ok := byName[name]; !ok {
			i.err = fmt.Errorf("no such interface: %w", syscall.ENODEV)
		} else {
			i.index = l.Index
			i.stack, i.err = e.openStack(l, e.cfg.Mode)
		}
		if i.err != nil {
			errs = append(errs, fmt.Errorf("onload: interface %s: %w", name, i.err))
			if e.cfg.Fallback {
				e.log.Warn("interface is left to the kernel", zap.String("interface", name), zap.Error(i.err))
			}
		}
	}
	if e.cfg.Fallback {
		return nil
	}
	return errors.Join(errs...)
}

// openControl starts the mirror of what the kernel knows.
func (e *Engine) openControl() error {
	mirror, err := control.NewKernel(e.ns, e.log)
	if err != nil {
		return fmt.Errorf("onload: netlink: %w", err)
	}
	if e.port, err = control.NewKernelPorts(e.ns); err != nil {
		return errors.Join(fmt.Errorf("onload: ports: %w", err), mirror.Close())
	}
	e.net = mirror
	return nil
}

// openAuto takes every interface that is up, carries packets of its own, and
// whose driver runs XDP natively. It finds that out by trying.
func (e *Engine) openAuto() {
	for _, l := range e.net.Links() {
		if !l.Up || l.Loopback || l.Master != 0 || l.VLAN != 0 {
			continue
		}
		mode := e.cfg.Mode
		if mode == ModeAuto && l.Kind == "device" {
			mode = ModeNative
		}
		i := &iface{name: l.Name, index: l.Index}
		if i.stack, i.err = e.openStack(l, mode); i.err != nil {
			e.log.Info("interface is left to the kernel", zap.String("interface", l.Name), zap.Error(i.err))
		}
		e.ifs = append(e.ifs, i)
	}
	if len(e.stacks()) == 0 {
		e.log.Warn("nothing is accelerated: no interface runs XDP natively", zap.String("because", e.whyNone()))
	}
}

// openStack takes one interface.
func (e *Engine) openStack(l control.Link, mode Mode) (*stack.Stack, error) {
	c := &e.cfg
	dev, err := afxdp.Open(afxdp.Config{
		Interface: strconv.Itoa(l.Index), // a name may be a number, of another one
		Queues:    c.Queues,
		Mode:      mode,
		ZeroCopy:  c.ZeroCopy,
		Frames:    c.Frames,
		FrameSize: c.FrameSize,
		RxRing:    c.RingSize,
		TxRing:    c.RingSize,
		BusyPoll:  c.BusyPoll,
		NAPI:      c.NAPI,
		Offloads:  c.Offloads,
		InNS:      e.ns.Do,
		Log:       e.log,
	})
	if err != nil {
		return nil, err
	}
	s, err := stack.New(stack.Config{
		Name:    l.Name,
		Link:    l.Index,
		Device:  dev,
		Net:     e.net,
		Ports:   e.port,
		Profile: c.Profile,
		Spin:    c.Spin,
		TCP:     e.stackTCP(),
		Log:     e.log,

		MaxOrphans:   c.MaxOrphans,
		MaxTimeWaits: c.MaxTimeWaits,
	})
	if err == nil && e.log.Core().Enabled(zap.DebugLevel) {
		for _, a := range e.advice(s) {
			e.log.Debug("advice", zap.String("interface", l.Name), zap.String("is", a))
		}
	}
	return s, err
}
