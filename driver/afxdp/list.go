package afxdp

import (
	"fmt"
	"reflect"

	"github.com/cilium/ebpf"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/afxdp/bpf"
)

var _ driver.Lister = (*Device)(nil)

// EachSteered implements driver.Lister. It reads the maps that the program reads.
func (d *Device) EachSteered(f func(driver.Steered) bool) error {
	// The clones outlive Close, so that nobody waits for a long list.
	ports, flows, err := d.cloneMaps()
	if err != nil {
		return err
	}
	defer ports.Close()
	defer flows.Close()
	var port bpf.SteerPortKey
	var entry bpf.SteerPortEntry
	each := ports.Iterate()
	for each.Next(&port, &entry) {
		local := port.Addr()
		if local.Port() == 0 {
			continue // it says that there are ports at the address
		}
		if !f(driver.Steered{Proto: port.Proto, Local: local, Owner: ownerName(entry.Owner)}) {
			return nil
		}
	}
	if err := each.Err(); err != nil {
		return fmt.Errorf("afxdp: port entries: %w", err)
	}
	var flow bpf.SteerFlowKey
	var owner uint32
	each = flows.Iterate()
	for each.Next(&flow, &owner) {
		local, remote := flow.Addrs()
		if !f(driver.Steered{Proto: flow.Proto, Local: local, Remote: remote, Owner: ownerName(owner)}) {
			return nil
		}
	}
	if err := each.Err(); err != nil {
		return fmt.Errorf("afxdp: flow entries: %w", err)
	}
	return nil
}

func (d *Device) cloneMaps() (ports, flows *ebpf.Map, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, nil, errClosed
	}
	if ports, err = d.objs.Ports.Clone(); err != nil {
		return nil, nil, err
	}
	if flows, err = d.objs.Flows.Clone(); err != nil {
		_ = ports.Close()
		return nil, nil, err
	}
	return ports, flows, nil
}

func ownerName(owner uint32) string {
	switch owner {
	case bpf.OwnerKernel:
		return "kernel"
	case bpf.OwnerSockets:
		return "stack"
	}
	return fmt.Sprintf("link %d", owner-bpf.OwnerLink)
}

// Decisions implements driver.Lister: the Counters.
func (d *Device) Decisions() (l []driver.Decided, err error) {
	c, err := d.Counters()
	if err != nil {
		return nil, err
	}
	v := reflect.ValueOf(c)
	for i := range v.NumField() {
		t := v.Type().Field(i)
		l = append(l, driver.Decided{Name: t.Name, Help: t.Tag.Get("help"), Packets: v.Field(i).Uint()})
	}
	return l, nil
}
