package stack

import "net/netip"

// flowKey names a connected UDP socket. It is plain memory, so that hashing it
// is one pass of the runtime's keyed hash (attack 24: hash flooding).
type flowKey struct {
	local, remote         [16]byte
	localPort, remotePort uint16
}

func makeFlowKey(local, remote netip.AddrPort) flowKey {
	return flowKey{local.Addr().As16(), remote.Addr().As16(), local.Port(), remote.Port()}
}

// portKey names a bound port. addr is all zero for IPv6's wildcard, and the
// mapped 0.0.0.0 for IPv4's.
type portKey struct {
	addr [16]byte
	port uint16
}

var (
	any4 = netip.IPv4Unspecified().As16()
	any6 = netip.IPv6Unspecified().As16()
)

// portKeys returns the keys under which a socket bound to a is found: two for
// the zero Addr, which means any address of both families.
func portKeys(a netip.AddrPort) []portKey {
	if !a.Addr().IsValid() {
		return []portKey{{any4, a.Port()}, {any6, a.Port()}}
	}
	return []portKey{{a.Addr().As16(), a.Port()}}
}
