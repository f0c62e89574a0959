package sim

import (
	"fmt"
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

// steering decides which packets are ours (see driver.Steering).
type steering struct {
	mu     sync.RWMutex
	closed bool
	ports  map[localAddr]map[uint16]int32
	flows  map[flowKey]flowEntry

	frags    map[fragKey]bool
	fragRing [maxFrags]fragKey
	fragNext int
}

func newSteering() *steering {
	return &steering{ports: map[localAddr]map[uint16]int32{}, flows: map[flowKey]flowEntry{}, frags: map[fragKey]bool{}}
}

func checkEntry(proto uint8, local netip.AddrPort) error {
	if proto != protoTCP && proto != protoUDP {
		return fmt.Errorf("sim: steering of protocol %d: %w", proto, syscall.EPROTONOSUPPORT)
	}
	if local.Port() == 0 {
		return fmt.Errorf("sim: steering of port 0: %w", syscall.EINVAL)
	}
	return nil
}

// close ends steering: nothing is ours any more.
func (s *steering) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	clear(s.ports)
	clear(s.flows)
	clear(s.frags)
}

// AddPort implements driver.Steering.
func (s *steering) AddPort(proto uint8, local netip.AddrPort) error {
	if err := checkEntry(proto, local); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	at := localAddr{proto, local.Addr().Unmap()}
	if s.ports[at] == nil {
		s.ports[at] = map[uint16]int32{}
	}
	s.ports[at][local.Port()]++
	return nil
}

// RemovePort implements driver.Steering.
func (s *steering) RemovePort(proto uint8, local netip.AddrPort) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil // it went with the device
	}
	at := localAddr{proto, local.Addr().Unmap()}
	ports := s.ports[at]
	switch n := ports[local.Port()]; n {
	case 0:
		return fmt.Errorf("sim: port %v of protocol %d: %w", local, proto, syscall.ENOENT)
	case 1:
		if delete(ports, local.Port()); len(ports) == 0 {
			delete(s.ports, at)
		}
	default:
		ports[local.Port()] = n - 1
	}
	return nil
}

// AddFlow implements driver.Steering.
func (s *steering) AddFlow(proto uint8, local, remote netip.AddrPort, ours bool) error {
	if err := checkEntry(proto, local); err != nil {
		return err
	}
	k := flowOf(proto, local, remote)
	l, r := k.local.Addr(), k.remote.Addr()
	if !l.IsValid() || !r.IsValid() || l.Is4() != r.Is4() || l.IsUnspecified() || r.IsUnspecified() || remote.Port() == 0 {
		return fmt.Errorf("sim: flow %v to %v: must be exact: %w", local, remote, syscall.EINVAL)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	s.flows[k] = flowEntry{ours, s.flows[k].n + 1}
	return nil
}

// RemoveFlow implements driver.Steering.
func (s *steering) RemoveFlow(proto uint8, local, remote netip.AddrPort) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	k := flowOf(proto, local, remote)
	e := s.flows[k]
	if e.n == 0 {
		return fmt.Errorf("sim: flow %v, %v: %w", local, remote, syscall.ENOENT)
	}
	if e.n--; e.n == 0 {
		delete(s.flows, k)
	} else {
		s.flows[k] = e
	}
	return nil
}

// ours decides for a received packet.
func (s *steering) ours(b []byte, h *headers) bool {
	switch {
	case h.Fragment:
		return s.fragment(h)
	case h.Proto == ip.ProtoICMP && !h.V6, h.Proto == ip.ProtoICMPv6 && h.V6:
		// An error is for the flow that it quotes.
		var e ip.ICMPError
		return ip.ParseICMPError(&h.Packet, b[h.L4Off:h.L4Off+h.L4Len], &e) && s.lookup(e.Proto, e.Local, e.Remote)
	}
	return s.lookup(h.Proto, h.destination(), h.source())
}

func (s *steering) lookup(proto uint8, local, remote netip.AddrPort) bool {
	if proto != protoTCP && proto != protoUDP {
		return false
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if e, ok := s.flows[flowKey{proto, local, remote}]; ok {
		return e.ours
	}
	anyAddr := netip.IPv6Unspecified()
	if local.Addr().Is4() {
		anyAddr = netip.IPv4Unspecified()
	}
	for _, a := range [...]netip.Addr{local.Addr(), anyAddr, {}} {
		if s.ports[localAddr{proto, a}][local.Port()] > 0 {
			return true
		}
	}
	return false
}

// fragment decides by the first fragment; those that come before it are not
// ours.
func (s *steering) fragment(h *headers) bool {
	k := fragKey{h.Src, h.Dst, h.FragID, h.Proto}
	if h.FragOff != 0 {
		s.mu.RLock()
		defer s.mu.RUnlock()
		return s.frags[k]
	}
	ours := s.lookup(h.Proto, h.destination(), h.source())
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.frags[k]; !ok {
		delete(s.frags, s.fragRing[s.fragNext])
		s.fragRing[s.fragNext] = k
		s.fragNext = (s.fragNext + 1) % maxFrags
	}
	s.frags[k] = ours
	return ours
}
