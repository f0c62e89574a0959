// Package steer is driver.Steering in software, for devices without a kernel that
// could do it.
package steer

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"

	"github.com/onload-go/onload/ip"
)

type localAddr struct {
	proto uint8
	addr  netip.Addr
}

type flowKey struct {
	proto         uint8
	local, remote netip.AddrPort
}

func flowOf(proto uint8, local, remote netip.AddrPort) flowKey {
	return flowKey{
		proto, netip.AddrPortFrom(local.Addr().Unmap(), local.Port()),
		netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port()),
	}
}

type flowEntry struct {
	ours bool
	n    int
}

type fragKey struct {
	src, dst netip.Addr
	id       uint32
	proto    uint8
}

// maxFrags bounds what is remembered of first fragments.
const maxFrags = 256

// Table decides which packets are ours (see driver.Steering). It is safe for
// concurrent use. Among the fragments of a datagram the first one, which has the
// ports, decides for those that come after it; one that comes before it is ours
// where a port of ours has its address.
type Table struct {
	mu     sync.RWMutex
	closed bool
	ports  map[localAddr]map[uint16]int32
	flows  map[flowKey]flowEntry

	frags    map[fragKey]bool
	fragRing [maxFrags]fragKey
	fragNext int
}

// New returns an empty Table: nothing is ours.
func New() *Table {
	return &Table{ports: map[localAddr]map[uint16]int32{}, flows: map[flowKey]flowEntry{}, frags: map[fragKey]bool{}}
}

func checkEntry(proto uint8, local netip.AddrPort) error {
	if proto != ip.ProtoTCP && proto != ip.ProtoUDP {
		return fmt.Errorf("steer: steering of protocol %d: %w", proto, syscall.EPROTONOSUPPORT)
	}
	if local.Port() == 0 {
		return fmt.Errorf("steer: steering of port 0: %w", syscall.EINVAL)
	}
	return nil
}

// Close ends steering: nothing is ours any more, and nothing can be added.
func (t *Table) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	clear(t.ports)
	clear(t.flows)
	clear(t.frags)
}

// AddPort implements driver.Steering.
func (t *Table) AddPort(proto uint8, local netip.AddrPort) error {
	if err := checkEntry(proto, local); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return fmt.Errorf("steer: %w", net.ErrClosed)
	}
	at := localAddr{proto, local.Addr().Unmap()}
	if t.ports[at] == nil {
		t.ports[at] = map[uint16]int32{}
	}
	t.ports[at][local.Port()]++
	return nil
}

// RemovePort implements driver.Steering.
func (t *Table) RemovePort(proto uint8, local netip.AddrPort) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil // it went with the device
	}
	at := localAddr{proto, local.Addr().Unmap()}
	ports := t.ports[at]
	switch n := ports[local.Port()]; n {
	case 0:
		return fmt.Errorf("steer: port %v of protocol %d: %w", local, proto, syscall.ENOENT)
	case 1:
		if delete(ports, local.Port()); len(ports) == 0 {
			delete(t.ports, at)
		}
	default:
		ports[local.Port()] = n - 1
	}
	return nil
}

// AddFlow implements driver.Steering.
func (t *Table) AddFlow(proto uint8, local, remote netip.AddrPort, ours bool) error {
	if err := checkEntry(proto, local); err != nil {
		return err
	}
	k := flowOf(proto, local, remote)
	l, r := k.local.Addr(), k.remote.Addr()
	if !l.IsValid() || !r.IsValid() || l.Is4() != r.Is4() || l.IsUnspecified() || r.IsUnspecified() || remote.Port() == 0 {
		return fmt.Errorf("steer: flow %v to %v: must be exact: %w", local, remote, syscall.EINVAL)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return fmt.Errorf("steer: %w", net.ErrClosed)
	}
	t.flows[k] = flowEntry{ours, t.flows[k].n + 1}
	return nil
}

// RemoveFlow implements driver.Steering.
func (t *Table) RemoveFlow(proto uint8, local, remote netip.AddrPort) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	k := flowOf(proto, local, remote)
	e := t.flows[k]
	if e.n == 0 {
		return fmt.Errorf("steer: flow %v, %v: %w", local, remote, syscall.ENOENT)
	}
	if e.n--; e.n == 0 {
		delete(t.flows, k)
	} else {
		t.flows[k] = e
	}
	return nil
}

// Ours decides for a received packet, whose first bytes, with all headers, are b.
func (t *Table) Ours(b []byte, h *Headers) bool {
	switch {
	case h.Fragment:
		return t.fragment(h)
	case h.Proto == ip.ProtoICMP && !h.V6, h.Proto == ip.ProtoICMPv6 && h.V6:
		// An error is for the flow that it quotes.
		var e ip.ICMPError
		return ip.ParseICMPError(&h.Packet, b[h.L4Off:h.L4Off+h.L4Len], &e) && t.lookup(e.Proto, e.Local, e.Remote)
	}
	return t.lookup(h.Proto, h.Destination(), h.Source())
}

func (t *Table) lookup(proto uint8, local, remote netip.AddrPort) bool {
	if proto != ip.ProtoTCP && proto != ip.ProtoUDP {
		return false
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if e, ok := t.flows[flowKey{proto, local, remote}]; ok {
		return e.ours
	}
	for _, a := range [...]netip.Addr{local.Addr(), anyOf(local.Addr()), {}} {
		if t.ports[localAddr{proto, a}][local.Port()] > 0 {
			return true
		}
	}
	return false
}

func (t *Table) fragment(h *Headers) bool {
	k := fragKey{h.Src, h.Dst, h.FragID, h.Proto}
	if h.FragOff != 0 {
		t.mu.RLock()
		defer t.mu.RUnlock()
		ours, ok := t.frags[k]
		return ours || !ok && t.somePort(h.Proto, h.Dst)
	}
	ours := t.lookup(h.Proto, h.Destination(), h.Source())
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.frags[k]; !ok {
		delete(t.frags, t.fragRing[t.fragNext])
		t.fragRing[t.fragNext] = k
		t.fragNext = (t.fragNext + 1) % maxFrags
	}
	t.frags[k] = ours
	return ours
}

// somePort reports whether a port of ours has the address. The lock is held.
func (t *Table) somePort(proto uint8, local netip.Addr) bool {
	for _, a := range [...]netip.Addr{local, anyOf(local), {}} {
		if len(t.ports[localAddr{proto, a}]) > 0 {
			return true
		}
	}
	return false
}

// anyOf is the unspecified address of a's family.
func anyOf(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}
