package stack

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"
)

// conn finds the TCP connection of two ends, or nil.
func (s *Stack) conn(local, remote netip.AddrPort) *TCPConn {
	if s.flows.len() == 0 {
		return nil
	}
	return s.flows.find(flowHash(s.flowSeed, local, remote), func(c *TCPConn) bool { return c.tc.Between(local, remote) })
}

// timeWaitOf finds the connection in TIME-WAIT, or nil.
func (s *Stack) timeWaitOf(local, remote netip.AddrPort) *timeWait {
	if s.timeWaits.len() == 0 {
		return nil
	}
	return s.timeWaits.find(flowHash(s.flowSeed, local, remote), func(t *timeWait) bool {
		return t.local() == local && t.remote() == remote
	})
}

func (s *Stack) initFlows() {
	s.flowSeed = maphash.MakeSeed()
	s.flows = newTable(func(c *TCPConn) uint64 { return flowHash(s.flowSeed, c.tc.Local(), c.tc.Remote()) })
	s.timeWaits = newTable(func(t *timeWait) uint64 { return flowHash(s.flowSeed, t.local(), t.remote()) })
}

// flowHash is keyed, so that nobody outside can choose flows that collide
// (attack 24); its values never leave the stack.
func flowHash(seed maphash.Seed, local, remote netip.AddrPort) uint64 {
	if local.Addr().Is4() {
		var b [12]byte
		l, r := local.Addr().As4(), remote.Addr().As4()
		copy(b[0:], l[:])
		copy(b[4:], r[:])
		binary.NativeEndian.PutUint16(b[8:], local.Port())
		binary.NativeEndian.PutUint16(b[10:], remote.Port())
		return maphash.Bytes(seed, b[:])
	}
	var b [36]byte
	l, r := local.Addr().As16(), remote.Addr().As16()
	copy(b[0:], l[:])
	copy(b[16:], r[:])
	binary.NativeEndian.PutUint16(b[32:], local.Port())
	binary.NativeEndian.PutUint16(b[34:], remote.Port())
	return maphash.Bytes(seed, b[:])
}
