package sim

import (
	"fmt"
	"net/netip"
	"sync"
	"syscall"
)

type localAddr struct {
	proto uint8
	addr  netip.Addr
}

type flowKey struct {
	proto         uint8
	local, remote netip.AddrPort
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
	mu    sync.RWMutex
	ports map[localAddr]map[uint16]int32
	flows map[flowKey]flowEntry

	frags    map[fragKey]bool
	fragRing [maxFrags]fragKey
	fragNext int
}

func newSteering() *steering {
	return &steering{ports: map[localAddr]map[uint16]int32{}, flows: map[flowKey]flowEntry{}, frags: map[fragKey]bool{}}
}

func checkProto(proto uint8) error {
	if proto != protoTCP && proto != protoUDP {
		return fmt.Errorf("sim: protocol %d: must be TCP or UDP", proto)
	}
	return nil
}

// AddPort implements driver.Steering.
func (s *steering) AddPort(proto uint8, local netip.AddrPort) error {
	if err := checkProto(proto); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at := localAddr{proto, local.Addr()}
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
	at := localAddr{proto, local.Addr()}
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
	if err := checkProto(proto); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := flowKey{proto, local, remote}
	e := s.flows[k]
	if e.n > 0 && e.ours != ours {
		return fmt.Errorf("sim: flow %v, %v: decided otherwise: %w", local, remote, syscall.EEXIST)
	}
	s.flows[k] = flowEntry{ours, e.n + 1}
	return nil
}

// RemoveFlow implements driver.Steering.
func (s *steering) RemoveFlow(proto uint8, local, remote netip.AddrPort) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := flowKey{proto, local, remote}
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
	case h.fragment:
		return s.fragment(h)
	case h.proto == protoICMP && !h.v6, h.proto == protoICMPv6 && h.v6:
		return s.icmp(b, h)
	}
	return s.lookup(h.proto, netip.AddrPortFrom(h.dst, h.dport), netip.AddrPortFrom(h.src, h.sport))
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
	k := fragKey{h.src, h.dst, h.fragID, h.proto}
	if !h.firstFrag {
		s.mu.RLock()
		defer s.mu.RUnlock()
		return s.frags[k]
	}
	ours := s.lookup(h.proto, netip.AddrPortFrom(h.dst, h.dport), netip.AddrPortFrom(h.src, h.sport))
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

// icmp decides for an ICMP error by the packet that it quotes, of which we
// are the source.
func (s *steering) icmp(b []byte, h *headers) bool {
	p := b[h.l4:]
	if len(p) < 8 {
		return false
	}
	if h.v6 && p[0] >= 128 {
		return false
	}
	if !h.v6 {
		switch p[0] {
		case 3, 4, 11, 12:
		default:
			return false
		}
	}
	q := headers{v6: h.v6}
	if !q.parseIP(p[8:], h.l4+8) || q.l4 == 0 {
		return false
	}
	return s.lookup(q.proto, netip.AddrPortFrom(q.src, q.sport), netip.AddrPortFrom(q.dst, q.dport))
}
