package stack

import (
	"net/netip"

	"github.com/onload-go/onload/driver"
)

// steering steers on every link of a stack, since packets of a port or flow of ours
// may come by any.
func (w *wiring) steering() driver.Steering {
	var all steerings
	for _, k := range w.links() {
		all = append(all, k.steering)
	}
	if len(all) == 1 {
		return all[0]
	}
	return all
}

type steerings []driver.Steering

// each calls add for every link. If one refuses, it undoes what the others took.
func (all steerings) each(add, undo func(driver.Steering) error) error {
	for i, s := range all {
		if err := add(s); err != nil {
			for _, t := range all[:i] {
				_ = undo(t)
			}
			return err
		}
	}
	return nil
}

// every calls remove for every link, and returns the first error.
func (all steerings) every(remove func(driver.Steering) error) (first error) {
	for _, s := range all {
		if err := remove(s); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// AddPort implements driver.Steering.
func (all steerings) AddPort(proto uint8, local netip.AddrPort) error {
	return all.each(func(s driver.Steering) error { return s.AddPort(proto, local) },
		func(s driver.Steering) error { return s.RemovePort(proto, local) })
}

// ProvePort implements driver.Prover.
func (all steerings) ProvePort(proto uint8, local netip.AddrPort, socket int) error {
	return all.each(func(s driver.Steering) error { return provePort(s, proto, local, socket) },
		func(s driver.Steering) error { return s.RemovePort(proto, local) })
}

// Unlisten implements driver.Prover.
func (all steerings) Unlisten(local netip.AddrPort) {
	for _, s := range all {
		if p, ok := s.(driver.Prover); ok {
			p.Unlisten(local)
		}
	}
}

// SharePort implements driver.Prover.
func (all steerings) SharePort(local netip.AddrPort) error {
	return all.every(func(s driver.Steering) error {
		if p, ok := s.(driver.Prover); ok {
			return p.SharePort(local)
		}
		return nil
	})
}

// provePort steers a port, and shows the kernel's socket that has it where that is wanted.
func provePort(s driver.Steering, proto uint8, local netip.AddrPort, socket int) error {
	if p, ok := s.(driver.Prover); ok {
		return p.ProvePort(proto, local, socket)
	}
	return s.AddPort(proto, local)
}

// RemovePort implements driver.Steering.
func (all steerings) RemovePort(proto uint8, local netip.AddrPort) error {
	return all.every(func(s driver.Steering) error { return s.RemovePort(proto, local) })
}

// AddFlow implements driver.Steering.
func (all steerings) AddFlow(proto uint8, local, remote netip.AddrPort, ours bool) error {
	return all.each(func(s driver.Steering) error { return s.AddFlow(proto, local, remote, ours) },
		func(s driver.Steering) error { return s.RemoveFlow(proto, local, remote) })
}

// RemoveFlow implements driver.Steering.
func (all steerings) RemoveFlow(proto uint8, local, remote netip.AddrPort) error {
	return all.every(func(s driver.Steering) error { return s.RemoveFlow(proto, local, remote) })
}
