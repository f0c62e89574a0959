package nicshare

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	steer "github.com/onload-go/onload/driver/afxdp/bpf"
)

// keys returns the entries of a port.
func (p Port) keys() ([]steer.SteerPortKey, error) {
	at := netip.AddrPortFrom(p.Addr, p.Port)
	if err := steer.CheckPort(p.Proto, at); err != nil {
		return nil, err
	}
	if p.Addr.Zone() != "" || p.Addr.IsMulticast() && p.Proto != unix.IPPROTO_UDP {
		return nil, fmt.Errorf("nicshare: port of %v: %w", p.Addr, unix.EINVAL)
	}
	return steer.PortKeys(p.Proto, at), nil
}

// Allow gives the link all ports, or none: from now on packets for them go to its
// process, and it may send from them. A port or group that another link has is
// EADDRINUSE. An address that the interface does not have is EADDRNOTAVAIL.
func (l *Link) Allow(ports ...Port) error {
	var keys []steer.SteerPortKey
	for _, p := range ports {
		ks, err := p.keys()
		if err != nil {
			return err
		}
		if err := l.n.checkLocal(p.Addr); err != nil {
			return err
		}
		keys = append(keys, ks...)
	}
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	if l.gone || l.n.closed {
		return errClosed
	}
	var done []steer.SteerPortKey
	for _, k := range keys {
		if l.ports[k] {
			continue
		}
		err := l.n.steer.Ports.Update(&k, &steer.SteerPortEntry{Owner: l.owner(), Priority: l.priority}, ebpf.UpdateNoExist)
		if err != nil {
			return errors.Join(entryError(fmt.Sprintf("port %v", k.Addr()), err), l.revoke(done))
		}
		l.ports[k] = true
		done = append(done, k)
	}
	return nil
}

// entryError says why the table took no entry.
func entryError(what string, err error) error {
	switch {
	case errors.Is(err, ebpf.ErrKeyExist):
		err = fmt.Errorf("another process has it: %w", unix.EADDRINUSE)
	case errors.Is(err, unix.E2BIG), errors.Is(err, unix.ENOSPC):
		err = fmt.Errorf("the table is full: %w", unix.ENOSPC)
	}
	return fmt.Errorf("nicshare: %s: %w", what, err)
}

// Revoke takes ports away. Those that the link does not have are left alone.
func (l *Link) Revoke(ports ...Port) error {
	var keys []steer.SteerPortKey
	for _, p := range ports {
		ks, err := p.keys()
		if err != nil {
			return err
		}
		keys = append(keys, ks...)
	}
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	if l.n.closed {
		return nil
	}
	return l.revoke(keys)
}

func (l *Link) revoke(keys []steer.SteerPortKey) error {
	var errs []error
	gone := map[steer.SteerPortKey]bool{}
	for _, k := range keys {
		if !l.ports[k] {
			continue
		}
		delete(l.ports, k)
		if err := l.n.steer.Ports.Delete(&k); err != nil {
			errs = append(errs, fmt.Errorf("nicshare: port %v: %w", k.Addr(), err))
		}
		k.Local.W = [4]uint32{}
		gone[k] = true
	}
	return errors.Join(append(errs, l.revokeExceptions(gone))...)
}

// revokeExceptions revokes the flows that the link has left to the kernel of ports that it
// has no more: the ports' next owners would never see them. The keys have no address.
func (l *Link) revokeExceptions(gone map[steer.SteerPortKey]bool) error {
	var errs []error
	for f, owner := range l.flows {
		if owner == steer.OwnerKernel && gone[steer.SteerPortKey{Port: f.Lport, Proto: f.Proto, Family: f.Family}] && l.n.portOwner(f) != l.id {
			errs = append(errs, l.revokeFlow(f))
		}
	}
	return errors.Join(errs...)
}

// AllowFlow gives the link a connection whose port may belong to another link or the
// kernel. EADDRINUSE if another link has the flow.
func (l *Link) AllowFlow(f Flow) error { return l.putFlow(f, l.owner()) }

// ExceptFlow gives the kernel a connection of a port of the link's.
func (l *Link) ExceptFlow(f Flow) error { return l.putFlow(f, steer.OwnerKernel) }

func (l *Link) putFlow(f Flow, owner uint32) error {
	if err := steer.CheckFlow(f.Proto, f.Local, f.Remote); err != nil {
		return err
	}
	if err := l.n.checkLocal(f.Local.Addr()); err != nil {
		return err
	}
	k := steer.FlowKey(f.Proto, f.Local, f.Remote)
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	if l.gone || l.n.closed {
		return errClosed
	}
	if owner == steer.OwnerKernel && l.n.portOwner(k) != l.id {
		return fmt.Errorf("nicshare: flow %v to %v is of no port of the link: %w", f.Local, f.Remote, unix.EINVAL)
	}
	flags, more := ebpf.UpdateNoExist, 1
	if _, ok := l.flows[k]; ok {
		flags, more = ebpf.UpdateExist, 0
	}
	// The first entry counts only when the programs have been told that there are any.
	if err := l.n.countFlows(more); err != nil {
		return err
	}
	if err := l.n.steer.Flows.Update(&k, owner, flags); err != nil {
		return errors.Join(entryError(fmt.Sprintf("flow %v to %v", f.Local, f.Remote), err), l.n.countFlows(-more))
	}
	l.flows[k] = owner
	return nil
}

// countFlows tells the programs whether there are flow entries.
func (n *NIC) countFlows(more int) error {
	n.flows += more
	have := uint32(min(n.flows, 1))
	if err := errors.Join(n.steer.HaveFlows.Set(have), n.filter.HaveFlows.Set(have)); err != nil {
		return fmt.Errorf("nicshare: flow entries: %w", err)
	}
	return nil
}

// RevokeFlow takes a flow away, if the link has it: its port's entry counts again.
func (l *Link) RevokeFlow(f Flow) error {
	if err := steer.CheckFlow(f.Proto, f.Local, f.Remote); err != nil {
		return err
	}
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	if l.n.closed {
		return nil
	}
	return l.revokeFlow(steer.FlowKey(f.Proto, f.Local, f.Remote))
}

func (l *Link) revokeFlow(k steer.SteerFlowKey) error {
	if _, ok := l.flows[k]; !ok {
		return nil
	}
	delete(l.flows, k)
	if err := l.n.steer.Flows.Delete(&k); err != nil {
		return fmt.Errorf("nicshare: flow entry: %w", err)
	}
	return l.n.countFlows(-1)
}

// revokeAll takes all entries away, first the ports: without its flow a connection
// would be the port's.
func (l *Link) revokeAll() error {
	var keys []steer.SteerPortKey
	for k := range l.ports {
		keys = append(keys, k)
	}
	errs := []error{l.revoke(keys)}
	for k := range l.flows {
		errs = append(errs, l.revokeFlow(k))
	}
	return errors.Join(errs...)
}

// Has reports whether the link has the port.
func (l *Link) Has(p Port) bool {
	keys, err := p.keys()
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	return err == nil && !slices.ContainsFunc(keys, func(k steer.SteerPortKey) bool { return !l.ports[k] })
}

// Ports lists what the link has. A port of any address is one Port for each family,
// with that family's unspecified address.
func (l *Link) Ports() (ps []Port, err error) {
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	if l.gone || l.n.closed {
		return nil, errClosed
	}
	for k := range l.ports {
		a := k.Addr()
		ps = append(ps, Port{k.Proto, a.Addr(), a.Port()})
	}
	return ps, nil
}

// Flows lists the flows that the link has, without those of ExceptFlow.
func (l *Link) Flows() ([]Flow, error) { return l.flowsOf(l.owner()) }

// Exceptions lists the flows of ExceptFlow.
func (l *Link) Exceptions() ([]Flow, error) { return l.flowsOf(steer.OwnerKernel) }

func (l *Link) flowsOf(owner uint32) (fs []Flow, err error) {
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	if l.gone || l.n.closed {
		return nil, errClosed
	}
	for k, has := range l.flows {
		if has == owner {
			local, remote := k.Addrs()
			fs = append(fs, Flow{k.Proto, local, remote})
		}
	}
	return fs, nil
}

// entries counts the entries of a map.
func entries(m *ebpf.Map) (n int) {
	var k steer.SteerFlowKey
	var v uint32
	for it := m.Iterate(); it.Next(&k, &v); {
		n++
	}
	return n
}
