package stack

import (
	"errors"
	"net/netip"
	"slices"
	"syscall"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ip"
)

// steer has the packets of p come to our queues, unless they do already. The caller
// uses p. Where it fails, p is released.
func (t *portTable) steer(p *port) (*port, error) {
	if err := t.addPort(p); err != nil {
		t.release(p)
		return nil, err
	}
	return p, nil
}

// addPort is steer for a caller that releases p itself.
func (t *portTable) addPort(p *port) error {
	t.steerMu.RLock()
	defer t.steerMu.RUnlock()
	t.mu.Lock()
	done, v := t.steered[p] > 0, p.voucher()
	t.mu.Unlock()
	if done || p.remote.IsValid() {
		return nil
	}
	at := p.space.at
	if err := v.steer(t.device, at.proto, p.addr()); err != nil {
		return err
	}
	t.mu.Lock()
	gone := p.gone
	if !gone {
		t.steered[p]++ // two sockets that share p may have steered it at once
	}
	t.mu.Unlock()
	if gone { // the table was closed in between
		_ = t.device.RemovePort(at.proto, p.addr())
		return errClosed
	}
	return nil
}

// voucher is the kernel socket that has a port: one of ours, or the caller's.
type voucher struct {
	socket int             // -1: none of ours
	twin   syscall.RawConn // nil: none of the caller's
}

// voucher returns the socket that has p. The lock is held.
func (p *port) voucher() voucher { return voucher{p.held.FD(), p.twin} }

// steer steers a port, and shows a device that wants to see it the socket.
func (v voucher) steer(to driver.Steering, proto uint8, local netip.AddrPort) (err error) {
	if v.socket < 0 && v.twin != nil {
		closed := v.twin.Control(func(fd uintptr) { err = provePort(to, proto, local, int(fd)) })
		if closed == nil {
			return err
		}
	}
	return provePort(to, proto, local, v.socket)
}

// prover returns the device if it holds ports itself, or nil.
func (t *portTable) prover() driver.Prover {
	t.steerMu.RLock()
	defer t.steerMu.RUnlock()
	if all, ok := t.device.(steerings); ok && !slices.ContainsFunc(all, proves) {
		return nil
	}
	d, _ := t.device.(driver.Prover)
	return d
}

func proves(s driver.Steering) bool {
	_, ok := s.(driver.Prover)
	return ok
}

// unlisten tells a device that holds ports itself that the listener of local has closed. It
// reports whether there is such a device.
func (t *portTable) unlisten(local netip.AddrPort) bool {
	d := t.prover()
	if d == nil {
		return false
	}
	d.Unlisten(local)
	return true
}

// shareUnlistened lets a new listener have local if the device holds it for connections of
// a listener that has closed.
func (t *portTable) shareUnlistened(local netip.AddrPort) {
	if d := t.prover(); d != nil {
		_ = d.SharePort(local) // otherwise bind finds the port in use
	}
}

// unsteer leaves the packets of p to the kernel.
func (t *portTable) unsteer(p *port) {
	t.steerMu.RLock()
	defer t.steerMu.RUnlock()
	at := p.space.at
	if p.remote.IsValid() {
		_ = t.device.RemoveFlow(at.proto, p.addr(), p.remote)
		return
	}
	t.mu.Lock()
	n := t.steered[p]
	delete(t.steered, p)
	t.mu.Unlock()
	for range n {
		_ = t.device.RemovePort(at.proto, p.addr())
	}
}

// resteer steers all ports to the link that replaces another one.
func (t *portTable) resteer(from, to driver.Steering) error {
	t.steerMu.Lock()
	defer t.steerMu.Unlock()
	if all, ok := t.device.(steerings); ok {
		all = slices.Clone(all)
		all[slices.Index(all, from)] = to
		t.device = all
	} else {
		t.device = to
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	for p, n := range t.steered {
		for range n {
			errs = append(errs, p.voucher().steer(to, p.space.at.proto, p.addr()))
		}
	}
	for _, x := range t.exceptions {
		errs = append(errs, to.AddFlow(ip.ProtoTCP, x.local, x.remote, false))
	}
	for p := range t.lone {
		errs = append(errs, to.AddFlow(p.space.at.proto, p.addr(), p.remote, true))
	}
	return errors.Join(errs...)
}
