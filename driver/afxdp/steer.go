package afxdp

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver/afxdp/bpf"
)

// GroupPriority returns the SO_PRIORITY of the kernel sockets that belong to
// sockets of this process at a port of a multicast group. The program passes the
// group's datagrams to the kernel if it finds a socket without it. The low bits are
// those of best effort, so that queueing disciplines treat what such a socket sends
// as before.
func GroupPriority() int { return 0x6f<<24 | os.Getpid()&0xfffff<<4 }

// portEntries returns bpf.PortKeys, and the entries that say that there is some port.
func portEntries(proto uint8, local netip.AddrPort) []bpf.SteerPortKey {
	keys := bpf.PortKeys(proto, local)
	for _, k := range keys {
		k.Port = 0
		keys = append(keys, k)
	}
	return keys
}

// AddPort implements driver.Steering.
func (d *Device) AddPort(proto uint8, local netip.AddrPort) error {
	if err := bpf.CheckPort(proto, local); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errClosed
	}
	return d.addPorts(portEntries(proto, local))
}

func (d *Device) addPorts(keys []bpf.SteerPortKey) error {
	ours := bpf.SteerPortEntry{Owner: bpf.OwnerSockets, Priority: uint32(GroupPriority())}
	for i, k := range keys {
		if d.ports[k] == 0 {
			if err := d.objs.Ports.Put(&k, &ours); err != nil {
				_ = d.removePorts(keys[:i])
				return steerError("port", len(d.ports), err)
			}
		}
		d.ports[k]++
	}
	return nil
}

// RemovePort implements driver.Steering.
func (d *Device) RemovePort(proto uint8, local netip.AddrPort) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil // it went with the device
	}
	return d.removePorts(portEntries(proto, local))
}

func (d *Device) removePorts(keys []bpf.SteerPortKey) error {
	var errs []error
	for _, k := range keys {
		errs = append(errs, d.removePort(k))
	}
	return errors.Join(errs...)
}

func (d *Device) removePort(k bpf.SteerPortKey) error {
	switch d.ports[k] {
	case 0:
		return fmt.Errorf("afxdp: no such port entry: %w", unix.ENOENT)
	case 1:
		delete(d.ports, k)
		if err := d.objs.Ports.Delete(&k); err != nil {
			return fmt.Errorf("afxdp: port entry: %w", err)
		}
	default:
		d.ports[k]--
	}
	return nil
}

// AddFlow implements driver.Steering. Of several entries for one flow the last one
// added decides, until all are removed.
func (d *Device) AddFlow(proto uint8, local, remote netip.AddrPort, ours bool) error {
	if err := bpf.CheckFlow(proto, local, remote); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errClosed
	}
	if len(d.flows) == 0 {
		if err := d.objs.HaveFlows.Set(uint32(1)); err != nil {
			return fmt.Errorf("afxdp: flow entries: %w", err)
		}
	}
	k := bpf.FlowKey(proto, local, remote)
	owner := bpf.OwnerKernel
	if ours {
		owner = bpf.OwnerSockets
	}
	some := portEntries(proto, local)[1:]
	if err := d.addPorts(some); err != nil {
		return err
	}
	if err := d.objs.Flows.Put(&k, owner); err != nil {
		_ = d.removePorts(some)
		return steerError("flow", len(d.flows), err)
	}
	d.flows[k]++
	return nil
}

// RemoveFlow implements driver.Steering.
func (d *Device) RemoveFlow(proto uint8, local, remote netip.AddrPort) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	k := bpf.FlowKey(proto, local, remote)
	if d.flows[k] > 0 {
		if err := d.removePorts(portEntries(proto, local)[1:]); err != nil {
			return err
		}
	}
	switch d.flows[k] {
	case 0:
		return fmt.Errorf("afxdp: no such flow entry: %w", unix.ENOENT)
	case 1:
		delete(d.flows, k)
		if err := d.objs.Flows.Delete(&k); err != nil {
			return fmt.Errorf("afxdp: flow entry: %w", err)
		}
		if len(d.flows) == 0 {
			return d.objs.HaveFlows.Set(uint32(0))
		}
	default:
		d.flows[k]--
	}
	return nil
}

func steerError(what string, n int, err error) error {
	if errors.Is(err, unix.E2BIG) || errors.Is(err, unix.ENOSPC) {
		return fmt.Errorf("afxdp: %d %s entries: no more can be steered to this process: %w", n, what, unix.ENOSPC)
	}
	return fmt.Errorf("afxdp: %s entry: %w", what, err)
}

// Counters says what the program has done with frames since Open.
type Counters struct {
	Redirected    uint64 `help:"packets given to a queue"`
	RedirectICMP  uint64 `help:"ICMP errors given to a queue"`
	RedirectFrag  uint64 `help:"fragments given to a queue"`
	PassNotIP     uint64 `help:"packets left to the kernel: ARP and all else that is not IP"`
	PassProto     uint64 `help:"packets left to the kernel: neither TCP nor UDP nor an ICMP error about them"`
	PassMalformed uint64 `help:"packets left to the kernel: cut short or inconsistent"`
	PassFragment  uint64 `help:"packets left to the kernel: fragments whose first was the kernel's, or that no port of ours has the address of"`
	PassNoPort    uint64 `help:"packets left to the kernel: no entry"`
	PassFlow      uint64 `help:"packets left to the kernel: flow entry that says kernel"`
	PassNoSocket  uint64 `help:"packets left to the kernel: ours, but on a queue without a socket; dropped where the queue is about to get one"`
	PassScope     uint64 `help:"packets left to the kernel: sent to many, or to a link-local address"`
	PassJoined    uint64 `help:"packets left to the kernel: several datagrams in one packet"`
	PassGroup     uint64 `help:"packets left to the kernel: of a group that other sockets may hear at the port"`
	PassHost      uint64 `help:"packets left to the kernel: to the link-layer address of another host"`
}

// Counters asks the program; not for the hot path.
func (d *Device) Counters() (Counters, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return Counters{}, errClosed
	}
	return ReadCounters(d.objs.Counters)
}

// ReadCounters sums the map counters of steer.c over the processors, in the order of enum counter.
func ReadCounters(m *ebpf.Map) (c Counters, err error) {
	for i, to := range []*uint64{
		&c.Redirected, &c.PassNotIP, &c.PassProto, &c.PassMalformed, &c.PassFragment,
		&c.PassNoPort, &c.PassFlow, &c.PassNoSocket, &c.RedirectICMP, &c.RedirectFrag,
		&c.PassScope, &c.PassJoined, &c.PassGroup, &c.PassHost,
	} {
		var each []uint64
		if err := m.Lookup(uint32(i), &each); err != nil {
			return c, fmt.Errorf("afxdp: counters: %w", err)
		}
		for _, n := range each {
			*to += n
		}
	}
	return c, nil
}
