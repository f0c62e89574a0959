package nicshare

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver/afxdp"
	steer "github.com/onload-go/onload/driver/afxdp/bpf"
	"github.com/onload-go/onload/internal/broker/bpf"
)

// NIC is an interface that is shared. Its methods may be called from any goroutine.
type NIC struct {
	c      Config
	shared *afxdp.Shared
	mode   Mode // in which the program runs
	pins   *pins
	nl     *netlink.Handle // in the interface's namespace

	steer  steerObjects
	filter filterObjects
	memory *ebpf.Map
	link   link.Link // of the steering program
	guard  link.Link // nil: the kernel has none

	stop func() // ends the watch

	mu        sync.Mutex // of all below
	mac       [6]byte
	closed    bool
	addresses map[local]bool
	links     map[int]*Link
	flows     int // entries
}

// steerObjects are those of the steering program that links need.
type steerObjects struct {
	Program   *ebpf.Program  `ebpf:"onload_steer"`
	Ports     *ebpf.Map      `ebpf:"ports"`
	Flows     *ebpf.Map      `ebpf:"flows"`
	Frags     *ebpf.Map      `ebpf:"frags"`
	Counters  *ebpf.Map      `ebpf:"counters"`
	Devs      *ebpf.Map      `ebpf:"devs"`
	HaveFlows *ebpf.Variable `ebpf:"have_flows"`
	MACs      *ebpf.Variable `ebpf:"macs"`
}

func (o *steerObjects) close() {
	_ = o.Program.Close()
	for _, m := range []*ebpf.Map{o.Ports, o.Flows, o.Frags, o.Counters, o.Devs} {
		_ = m.Close()
	}
}

// filterObjects are those that all links share.
type filterObjects struct {
	Program   *ebpf.Program  `ebpf:"onload_filter"`
	Links     *ebpf.Map      `ebpf:"links"`
	NIC       *ebpf.Map      `ebpf:"nic"`
	Addresses *ebpf.Map      `ebpf:"addresses"`
	Firsts    *ebpf.Map      `ebpf:"firsts"`
	Sent      *ebpf.Map      `ebpf:"sent"`
	HaveFlows *ebpf.Variable `ebpf:"have_flows"`
}

func (o *filterObjects) close() {
	_ = o.Program.Close()
	for _, m := range []*ebpf.Map{o.Links, o.NIC, o.Addresses, o.Firsts, o.Sent} {
		_ = m.Close()
	}
}

// Open attaches the steering program to the interface, or takes over what an earlier
// process has left pinned: then its links carry on, and no packet is lost. It fails
// with a *driver/afxdp.ProgramError where another program is attached.
func Open(c Config) (*NIC, error) {
	if err := c.defaults(); err != nil {
		return nil, err
	}
	n := &NIC{c: c, addresses: map[local]bool{}, links: map[int]*Link{}, stop: func() {}}
	if err := c.InNS(n.open); err != nil {
		return nil, err
	}
	return n, nil
}

func (n *NIC) open() (err error) {
	if n.shared, err = afxdp.LookupShared(n.c.Interface); err != nil {
		return err
	}
	if n.pins, err = openPins(n.c.PinDir, n.c.Interface); err != nil {
		return err
	}
	first := false // nothing was pinned: all that is pinned is ours
	defer func() {
		if err == nil {
			return
		}
		if first {
			err = errors.Join(err, detach(n.link), n.pins.remove())
		}
		n.release()
		if !first {
			n.pins.giveUp()
		}
	}()
	if n.nl, err = netlink.NewHandle(); err != nil {
		return fmt.Errorf("nicshare: netlink: %w", err)
	}
	_ = rlimit.RemoveMemlock() // a refusal shows below
	old, err := n.pinned()
	if err != nil {
		return err
	}
	first = old == nil
	if err := n.loadFilter(); err != nil {
		return err
	}
	if err := n.loadMemory(); err != nil {
		return err
	}
	if err := n.openGuard(); err != nil {
		return err
	}
	if err := n.attach(old); err != nil {
		return err
	}
	if err := n.adopt(); err != nil {
		return err
	}
	if err := n.watch(); err != nil {
		return err
	}
	n.c.Log.Info("nicshare: opened", zap.String("interface", n.shared.Name), zap.String("driver", n.shared.Driver),
		zap.Stringer("mode", n.mode), zap.Bool("taken over", old != nil), zap.Int("links", len(n.links)))
	return nil
}

// pinned returns the attachment that an earlier process has left, nil if there is
// none. What is left without an attachment to this interface is removed.
func (n *NIC) pinned() (link.Link, error) {
	old, err := n.leftHere()
	if err != nil || old != nil {
		return old, err
	}
	if err := n.shared.AwaitFree(context.Background()); err != nil {
		return nil, err
	}
	return nil, n.pins.clear()
}

// leftHere returns the attachment to this interface that is pinned, nil if there is none.
func (n *NIC) leftHere() (link.Link, error) {
	old, err := link.LoadPinnedLink(n.pins.path(steerPin), nil)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("nicshare: %w", err)
	}
	info, err := old.Info()
	index := 0 // of an interface that is gone
	if err == nil && info.XDP() != nil {
		index = int(info.XDP().Ifindex)
	}
	// An index is one of the namespace that the pins were made for.
	here := index != 0 && afxdp.Runs(index, uint32(info.Program))
	if here && index == n.shared.Index {
		return old, nil
	}
	_ = old.Close()
	if index != 0 && !here {
		return nil, fmt.Errorf("nicshare: %s is of an interface of another network namespace: %w", n.pins.dir, unix.EBUSY)
	}
	return nil, nil
}

// pinMaps has the maps of a program pinned, or taken from their pins. A map that is
// pinned keeps its size.
func (n *NIC) pinMaps(spec *ebpf.CollectionSpec, names ...string) (ebpf.MapOptions, error) {
	for _, name := range names {
		m := spec.Maps[name]
		m.Pinning = ebpf.PinByName
		old, err := ebpf.LoadPinnedMap(n.pins.path(name), nil)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return ebpf.MapOptions{}, fmt.Errorf("nicshare: %w", err)
		}
		m.MaxEntries = old.MaxEntries()
		err = m.Compatible(old)
		_ = old.Close()
		if err != nil {
			return ebpf.MapOptions{}, fmt.Errorf("nicshare: %s has the links of a broker of another version, whose maps this one cannot use"+
				" (onload broker -interfaces %s -remove ends them): %w", n.pins.dir, n.shared.Name, err)
		}
	}
	return ebpf.MapOptions{PinPath: n.pins.dir}, nil
}

// maxAddresses is how many addresses of the interface the programs can know.
const maxAddresses = 4096

// loadFilter loads the filter of all links, and the maps that it shares with the
// steering program.
func (n *NIC) loadFilter() error {
	spec, err := bpf.LoadFilter()
	if err != nil {
		return fmt.Errorf("nicshare: %w", err)
	}
	links := uint32(n.c.MaxLinks)
	spec.Maps["ports"].MaxEntries = uint32(n.c.MaxPorts)
	spec.Maps["flows"].MaxEntries = uint32(n.c.MaxFlows)
	spec.Maps["links"].MaxEntries = links
	spec.Maps["addresses"].MaxEntries = maxAddresses
	spec.Maps["firsts"].MaxEntries *= links
	spec.Maps["sent"].MaxEntries *= links
	maps, err := n.pinMaps(spec, "ports", "flows", "links", "nic", "addresses", "firsts", "sent")
	if err != nil {
		return err
	}
	if err := spec.LoadAndAssign(&n.filter, &ebpf.CollectionOptions{Maps: maps}); err != nil {
		return fmt.Errorf("nicshare: load of the filter, which takes Linux 6.6 that describes itself (CONFIG_DEBUG_INFO_BTF): %w", err)
	}
	n.c.MaxLinks = int(n.filter.Links.MaxEntries())
	return nil
}

// attach attaches the steering program, or puts it in the place of the old one, which
// has the same maps.
func (n *NIC) attach(old link.Link) error {
	mode := afxdp.Mode(n.c.Mode)
	put := func(p *ebpf.Program, flags link.XDPAttachFlags) (err error) {
		n.link, err = link.AttachXDP(link.XDPOptions{Program: p, Interface: n.shared.Index, Flags: flags})
		return err
	}
	if old != nil {
		mode = n.shared.ProgramMode
		put = func(p *ebpf.Program, _ link.XDPAttachFlags) error { return old.Update(p) }
		n.link = old
	}
	ran, err := n.shared.Attach(mode, n.c.Log, n.loadSteer, put)
	if err != nil {
		return err
	}
	n.mode = Mode(ran)
	if old == nil {
		err = n.link.Pin(n.pins.path(steerPin))
	}
	return err
}

// loadSteer loads the steering program.
func (n *NIC) loadSteer(spec *ebpf.CollectionSpec) (*ebpf.Program, error) {
	spec.Maps[steer.SteerMapPorts].MaxEntries = uint32(n.c.MaxPorts)
	spec.Maps[steer.SteerMapFlows].MaxEntries = uint32(n.c.MaxFlows)
	spec.Maps[steer.SteerMapDevs].MaxEntries = uint32(n.c.MaxLinks)
	spec.Maps[steer.SteerMapAddresses].MaxEntries = maxAddresses
	maps, err := n.pinMaps(spec, steer.SteerMapPorts, steer.SteerMapFlows, steer.SteerMapFrags, steer.SteerMapCounters, steer.SteerMapDevs, steer.SteerMapAddresses)
	if err != nil {
		return nil, err
	}
	n.steer = steerObjects{}
	if err := spec.LoadAndAssign(&n.steer, &ebpf.CollectionOptions{Maps: maps}); err != nil {
		return nil, err
	}
	// Before the program runs: it takes what it does not know of for nobody's, or for ours.
	if _, err := n.hardware(); err != nil {
		return nil, err
	}
	n.flows = entries(n.steer.Flows)
	return n.steer.Program, n.countFlows(0)
}

// Close ends all links and removes everything: the interface is the kernel's again.
func (n *NIC) Close() error {
	n.stop()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil
	}
	var errs []error
	for _, l := range n.links {
		errs = append(errs, l.close())
	}
	errs = append(errs, detach(n.link), n.pins.remove())
	n.release()
	return errors.Join(errs...)
}

// detach takes the steering program from the interface. Without that the kernel does it
// somewhat after the last pin and descriptor have gone.
func detach(l link.Link) error {
	if l == nil {
		return nil
	}
	if err := l.Detach(); err != nil {
		return fmt.Errorf("nicshare: the steering program: %w", err)
	}
	return nil
}

// Detach gives up the descriptors, and leaves everything pinned for a later Open.
func (n *NIC) Detach() error {
	n.stop()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil
	}
	for _, l := range n.links {
		l.made.release()
	}
	n.release()
	return n.pins.lock.Close()
}

// release closes descriptors.
func (n *NIC) release() {
	n.closed = true
	if n.nl != nil {
		n.nl.Close()
	}
	if n.link != nil {
		_ = n.link.Close()
	}
	if n.guard != nil {
		_ = n.guard.Close()
	}
	n.steer.close()
	n.filter.close()
	_ = n.memory.Close()
}

// MaxLinks, MaxPorts and MaxFlows are how many links, entries of ports and entries of flows
// there can be. A port of any address has an entry for each family.
func (n *NIC) MaxLinks() int { return n.c.MaxLinks }

// MaxPorts is explained at MaxLinks.
func (n *NIC) MaxPorts() int { return int(n.steer.Ports.MaxEntries()) }

// MaxFlows is explained at MaxLinks.
func (n *NIC) MaxFlows() int { return int(n.steer.Flows.MaxEntries()) }

// Links returns the links that live, also those that an earlier process made.
func (n *NIC) Links() (ls []*Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, l := range n.links {
		ls = append(ls, l)
	}
	return ls
}

// Counters says what the steering program has done since it was first attached.
func (n *NIC) Counters() (afxdp.Counters, error) { return afxdp.ReadCounters(n.steer.Counters) }
