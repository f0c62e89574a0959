package nicshare

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	steer "github.com/onload-go/onload/driver/afxdp/bpf"
	"github.com/onload-go/onload/internal/broker/bpf"
)

// local is an address of the interface as the filter knows it.
type local = bpf.FilterLocal

func localOf(a netip.Addr) (l local) {
	w, family := steer.Words(a)
	l.Addr.W, l.Family = w, uint32(family)
	return l
}

// watch tells the programs what the interface is like, now and when it changes.
func (n *NIC) watch() error {
	done := make(chan struct{})
	links, addrs := make(chan netlink.LinkUpdate, 64), make(chan netlink.AddrUpdate, 64)
	if err := netlink.LinkSubscribe(links, done); err != nil {
		return fmt.Errorf("nicshare: netlink: %w", err)
	}
	if err := netlink.AddrSubscribe(addrs, done); err != nil {
		close(done)
		return fmt.Errorf("nicshare: netlink: %w", err)
	}
	n.mu.Lock()
	err := n.look()
	n.mu.Unlock()
	if err != nil {
		close(done)
		return err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case u, ok := <-links:
				if !ok {
					links = nil
				}
				if int(u.Index) != n.shared.Index {
					continue
				}
			case u, ok := <-addrs:
				if !ok {
					addrs = nil
				}
				if u.LinkIndex != n.shared.Index {
					continue
				}
			}
			n.mu.Lock()
			err := n.look()
			n.mu.Unlock()
			if err != nil {
				n.c.Log.Warn("nicshare: the interface's addresses", zap.String("interface", n.shared.Name), zap.Error(err))
			}
		}
	}()
	n.stop = func() {
		select {
		case <-ended:
		default:
			close(done)
			<-ended
		}
	}
	return nil
}

// look reads link-layer address, MTU and addresses of the interface, for the programs.
func (n *NIC) look() error {
	if n.closed {
		return nil
	}
	k, err := n.nl.LinkByIndex(n.shared.Index)
	if err != nil {
		return fmt.Errorf("nicshare: %s: %w", n.shared.Name, err)
	}
	a := k.Attrs()
	if len(a.HardwareAddr) != len(n.mac) {
		return fmt.Errorf("nicshare: %s: link-layer address %v: %w", n.shared.Name, a.HardwareAddr, unix.EINVAL)
	}
	n.mac, n.shared.MTU = [6]byte(a.HardwareAddr), a.MTU
	if err := n.filter.NIC.Put(uint32(0), bpf.FilterNic{Index: uint32(n.shared.Index), Mtu: uint32(a.MTU), Mac: n.mac}); err != nil {
		return fmt.Errorf("nicshare: the interface's entry: %w", err)
	}
	if err := n.steer.MACs.Set(steer.MACs([][6]byte{n.mac})); err != nil {
		return fmt.Errorf("nicshare: link-layer address: %w", err)
	}
	as, err := n.nl.AddrList(k, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("nicshare: addresses of %s: %w", n.shared.Name, err)
	}
	now := map[local]bool{}
	for _, a := range as {
		// The stack sends nothing from link-local addresses of IPv6.
		if ip, ok := netip.AddrFromSlice(a.IP); ok && !ip.Unmap().IsLinkLocalUnicast() {
			now[localOf(ip)] = true
		}
	}
	for a := range now {
		if err := n.filter.Addresses.Put(a, uint8(1)); err != nil {
			return fmt.Errorf("nicshare: address: %w", err)
		}
	}
	var a2 local
	var one uint8
	var gone []local
	for it := n.filter.Addresses.Iterate(); it.Next(&a2, &one); {
		if !now[a2] {
			gone = append(gone, a2)
		}
	}
	for _, a := range gone {
		if err := missing(n.filter.Addresses.Delete(a)); err != nil {
			return fmt.Errorf("nicshare: address: %w", err)
		}
	}
	n.addresses = now
	return nil
}

// checkLocal returns EADDRNOTAVAIL for an address that is neither the interface's, nor
// any, nor a group. An unprivileged socket can be bound to any address (IP_FREEBIND).
func (n *NIC) checkLocal(a netip.Addr) error {
	if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.addresses[localOf(a)] {
		return nil
	}
	if err := n.look(); err != nil { // it may be new
		return err
	}
	if !n.addresses[localOf(a)] {
		return fmt.Errorf("nicshare: %s has no address %v: %w", n.shared.Name, a, unix.EADDRNOTAVAIL)
	}
	return nil
}
