package nicshare

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	steer "github.com/onload-go/onload/driver/afxdp/bpf"
	"github.com/onload-go/onload/internal/broker/bpf"
)

// adopt takes over the links that an earlier process has made, with the filter of this
// one, and removes what is left of those that have ended.
func (n *NIC) adopt() error {
	var index uint32
	var value bpf.FilterLink
	ended := map[uint32]bool{}
	for it := n.filter.Links.Iterate(); it.Next(&index, &value); {
		l := &Link{n: n, id: int(value.Owner - steer.OwnerLink), index: int(index), token: value.Token, priority: value.Priority,
			ports: map[steer.SteerPortKey]bool{}, flows: map[steer.SteerFlowKey]uint32{}}
		l.name = n.name(l.id)
		if err := n.memory.Lookup(uint32(l.id), &l.memory); err != nil {
			return fmt.Errorf("nicshare: memory of %s: %w", l.name, err)
		}
		lives, err := n.renew(l)
		if err != nil {
			return err
		}
		if !lives {
			ended[index] = true
			continue
		}
		n.links[l.id] = l
	}
	for index := range ended {
		if err := n.filter.Links.Delete(index); err != nil {
			return fmt.Errorf("nicshare: entry of a link that has ended: %w", err)
		}
	}
	if err := n.adoptEntries(); err != nil {
		return err
	}
	return n.sweep()
}

// renew puts this process's filter in the place of the earlier one's, and reports
// whether the link lives. One without a filter does not: the earlier process ended
// while it made it, and the namespace of the far end with it. sweep removes it.
func (n *NIC) renew(l *Link) (lives bool, err error) {
	k, err := n.nl.LinkByIndex(l.index)
	if err != nil || k.Attrs().Name != l.name {
		return false, nil
	}
	l.nsid = k.Attrs().NetNsID
	at, err := link.QueryPrograms(link.QueryOptions{Target: l.index, Attach: ebpf.AttachTCXIngress})
	if err == nil {
		lives, err = n.replace(l, at.Programs)
	}
	if err != nil && l.alive() {
		return false, fmt.Errorf("nicshare: filter of %s: %w", l.name, err)
	}
	return lives && err == nil, nil // it may have ended meanwhile
}

// replace replaces the filter among the programs of a link's near end, and reports whether
// there is one. Others are somebody else's.
func (n *NIC) replace(l *Link, attached []link.AttachedProgram) (found bool, err error) {
	for _, a := range attached {
		old, err := ebpf.NewProgramFromID(a.ID)
		if errors.Is(err, os.ErrNotExist) {
			continue // it has ended meanwhile
		}
		if err != nil {
			return false, err
		}
		found, err = n.isFilter(old)
		if found {
			err = link.RawAttachProgram(link.RawAttachProgramOptions{
				Target: l.index, Program: n.filter.Program, Attach: ebpf.AttachTCXIngress, Anchor: link.ReplaceProgram(old),
			})
		}
		_ = old.Close()
		if found || err != nil {
			return found, err
		}
	}
	return false, nil
}

// isFilter reports whether p is the filter of an earlier process: it uses our map of links.
func (n *NIC) isFilter(p *ebpf.Program) (bool, error) {
	ours, err := n.filter.Links.Info()
	if err != nil {
		return false, err
	}
	id, ok := ours.ID()
	if !ok {
		return false, fmt.Errorf("maps have no numbers: %w", unix.ENOSYS)
	}
	info, err := p.Info()
	if err != nil {
		return false, err
	}
	ids, _ := info.MapIDs()
	return slices.Contains(ids, id), nil
}

// adoptEntries shares the entries of the table out to their links, and deletes those
// of links that have ended.
func (n *NIC) adoptEntries() error {
	var port steer.SteerPortKey
	var entry steer.SteerPortEntry
	var stale []any
	for it := n.steer.Ports.Iterate(); it.Next(&port, &entry); {
		if l := n.links[int(entry.Owner-steer.OwnerLink)]; l != nil {
			l.ports[port] = true
		} else {
			stale = append(stale, port)
		}
	}
	for _, k := range stale {
		if err := n.steer.Ports.Delete(k); err != nil {
			return fmt.Errorf("nicshare: port entry: %w", err)
		}
	}
	var flow steer.SteerFlowKey
	var owner uint32
	stale = nil
	for it := n.steer.Flows.Iterate(); it.Next(&flow, &owner); {
		if l := n.links[int(owner-steer.OwnerLink)]; owner >= steer.OwnerLink && l != nil {
			l.flows[flow] = owner
		} else if l := n.links[n.portOwner(flow)]; owner == steer.OwnerKernel && l != nil {
			l.flows[flow] = owner
		} else {
			stale = append(stale, flow)
		}
	}
	for _, k := range stale {
		if err := n.steer.Flows.Delete(k); err != nil {
			return fmt.Errorf("nicshare: flow entry: %w", err)
		}
	}
	return n.countFlows(-len(stale))
}

// portOwner returns the ID of the link that has the flow's port, -1 if none has.
func (n *NIC) portOwner(f steer.SteerFlowKey) int {
	k := steer.SteerPortKey{Port: f.Lport, Proto: f.Proto, Family: f.Family}
	var e steer.SteerPortEntry
	for _, k.Local.W = range [][4]uint32{f.Local.W, {}} {
		if n.steer.Ports.Lookup(&k, &e) == nil && e.Owner >= steer.OwnerLink {
			return int(e.Owner - steer.OwnerLink)
		}
	}
	return -1
}

// sweep deletes near ends that no link has, as those of a directory that was emptied.
func (n *NIC) sweep() error {
	all, err := n.nl.LinkList()
	if err != nil {
		return fmt.Errorf("nicshare: links: %w", err)
	}
	known := map[string]bool{}
	for _, l := range n.links {
		known[l.name] = true
	}
	for _, k := range all {
		name := k.Attrs().Name
		if k.Type() != "veth" || !strings.HasPrefix(name, n.prefix()) || known[name] {
			continue
		}
		n.c.Log.Warn("nicshare: a link that nobody knows is removed", zap.String("link", name))
		if err := n.nl.LinkDel(k); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("nicshare: %s: %w", name, err)
		}
	}
	return nil
}
