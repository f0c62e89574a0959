package nicshare

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

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

// news is what the kernel says of links and addresses. The channels are closed when
// something was lost (ENOBUFS).
type news struct {
	links chan netlink.LinkUpdate
	addrs chan netlink.AddrUpdate
	stop  chan struct{}
}

// subscribe runs in the interface's namespace.
func subscribe() (s news, err error) {
	s = news{make(chan netlink.LinkUpdate, 64), make(chan netlink.AddrUpdate, 64), make(chan struct{})}
	if err = netlink.LinkSubscribe(s.links, s.stop); err == nil {
		err = netlink.AddrSubscribe(s.addrs, s.stop)
	}
	if err != nil {
		close(s.stop)
		return s, fmt.Errorf("nicshare: netlink: %w", err)
	}
	return s, nil
}

// end ends the subscription. Its goroutines end when nobody lets them wait.
func (s news) end() { // a copy: s is overwritten by the next subscription
	close(s.stop)
	go func() {
		for range s.links {
		}
		for range s.addrs {
		}
	}()
}

// next waits for news of the interface, and reports whether there are any: false when
// done is closed, or when news were lost, which again says.
func (s *news) next(index int, done <-chan struct{}) (ok, again bool) {
	for {
		select {
		case <-done:
			return false, false
		case u, ok := <-s.links:
			if !ok || int(u.Index) == index {
				return ok, !ok
			}
		case u, ok := <-s.addrs:
			if !ok || u.LinkIndex == index {
				return ok, !ok
			}
		}
	}
}

// watch tells the programs what the interface is like, now and when it changes.
func (n *NIC) watch() error {
	s, err := subscribe()
	if err != nil {
		return err
	}
	n.mu.Lock()
	err = n.look()
	n.mu.Unlock()
	if err != nil {
		s.end()
		return err
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			ok, again := s.next(n.shared.Index, done)
			if again {
				s.end()
				if ok = n.subscribeAgain(&s, done); !ok {
					return
				}
			}
			if !ok {
				s.end()
				return
			}
			n.mu.Lock()
			err := n.look()
			n.mu.Unlock()
			if err != nil {
				n.c.Log.Warn("nicshare: the interface's addresses", zap.String("interface", n.shared.Name), zap.Error(err))
			}
		}
	}()
	n.stop = sync.OnceFunc(func() {
		close(done)
		<-ended
	})
	return nil
}

// subscribeAgain subscribes until it succeeds. It reports whether it did before done was
// closed.
func (n *NIC) subscribeAgain(s *news, done <-chan struct{}) bool {
	for {
		err := n.c.InNS(func() (err error) {
			*s, err = subscribe()
			return err
		})
		if err == nil {
			return true
		}
		n.c.Log.Warn("nicshare: news of the interface were lost", zap.String("interface", n.shared.Name), zap.Error(err))
		select {
		case <-done:
			return false
		case <-time.After(time.Second):
		}
	}
}

// hardware reads link-layer address and MTU of the interface, for the steering program.
func (n *NIC) hardware() (netlink.Link, error) {
	k, err := n.nl.LinkByIndex(n.shared.Index)
	if err != nil {
		return nil, fmt.Errorf("nicshare: %s: %w", n.shared.Name, err)
	}
	a := k.Attrs()
	if len(a.HardwareAddr) != len(n.mac) {
		return nil, fmt.Errorf("nicshare: %s: link-layer address %v: %w", n.shared.Name, a.HardwareAddr, unix.EINVAL)
	}
	n.mac, n.shared.MTU = [6]byte(a.HardwareAddr), a.MTU
	if err := n.steer.MACs.Set(steer.MACs([][6]byte{n.mac})); err != nil {
		return nil, fmt.Errorf("nicshare: link-layer address: %w", err)
	}
	return k, nil
}

// look reads link-layer address, MTU and addresses of the interface, for the programs.
func (n *NIC) look() error {
	if n.closed {
		return nil
	}
	k, err := n.hardware()
	if err != nil {
		return err
	}
	if err := n.filter.NIC.Put(uint32(0), bpf.FilterNic{Index: uint32(n.shared.Index), Mtu: uint32(n.shared.MTU), Mac: n.mac}); err != nil {
		return fmt.Errorf("nicshare: the interface's entry: %w", err)
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
