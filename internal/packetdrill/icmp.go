package packetdrill

import (
	"encoding/binary"
	"strconv"

	"github.com/onload-go/onload/ip"
)

// Names of ICMP's types and codes (RFC 792, RFC 4443).
var (
	icmpTypes4 = map[string]byte{
		"echo_reply": 0, "unreachable": 3, "source_quench": 4, "redirect": 5, "echo_request": 8,
		"time_exceeded": 11, "parameter_problem": 12,
	}
	icmpTypes6 = map[string]byte{
		"unreachable": 1, "packet_too_big": 2, "time_exceeded": 3, "parameter_problem": 4,
	}
	icmpCodes4 = map[string]byte{
		"net_unreachable": 0, "host_unreachable": 1, "protocol_unreachable": 2, "port_unreachable": 3,
		"frag_needed": 4, "source_route_failed": 5, "net_unknown": 6, "host_unknown": 7,
		"source_host_isolated": 8, "net_prohibited": 9, "host_prohibited": 10,
		"net_unreachable_for_tos": 11, "host_unreachable_for_tos": 12, "packet_filtered": 13,
		"precedence_violation": 14, "precedence_cutoff": 15,
	}
	icmpCodes6 = map[string]byte{
		"no_route": 0, "net_unreachable": 0, "admin_prohibited": 1, "not_neighbour": 2, "address_unreachable": 3,
		"port_unreachable": 4, "exceeded_hop_limit": 0, "exceeded_frag_time": 1,
		"header_field": 0, "unknown_next_header": 1, "unknown_option": 2,
	}
)

// inboundICMP sends an ICMP error that quotes a packet of the flow.
func (m *machine) inboundICMP(p *Packet) error {
	types, codes, other := icmpTypes4, icmpCodes4, icmpCodes6
	if m.set.v6 {
		types, codes, other = icmpTypes6, icmpCodes6, icmpCodes4
	}
	typ, ok := types[p.ICMPType]
	if !ok {
		return failf("no ICMP type %q", p.ICMPType)
	}
	code, ok := codes[p.ICMPCode]
	if n, err := strconv.ParseUint(p.ICMPCode, 0, 8); !ok && err == nil {
		code = byte(n)
	} else if _, known := other[p.ICMPCode]; !ok && known {
		return unsupportedf("ICMP code %s, of the other version of IP", p.ICMPCode)
	} else if !ok && p.ICMPCode != "" {
		return failf("no ICMP code %q", p.ICMPCode)
	}
	// Without numbers the script means those of the SYN, as in packetdrill.
	if p.Quote != TCP {
		return unsupportedf("an ICMP message that quotes no TCP segment")
	}
	b := make([]byte, 8)
	b[0], b[1] = typ, code
	if m.set.v6 {
		binary.BigEndian.PutUint32(b[4:], uint32(p.ICMPMTU))
	} else {
		binary.BigEndian.PutUint16(b[6:], uint16(p.ICMPMTU))
	}
	m.icmpError(append(b, m.quote(p)...), m.flow.local.Addr(), m.flow.remote.Addr())
	return nil
}

// quote is the packet of ours that an error quotes.
func (m *machine) quote(p *Packet) []byte {
	f := m.flow
	l4 := make([]byte, 8)
	binary.BigEndian.PutUint16(l4, f.local.Port())
	binary.BigEndian.PutUint16(l4[2:], f.remote.Port())
	binary.BigEndian.PutUint32(l4[4:], p.QSeq+f.localISN)
	local, remote := f.local.Addr(), f.remote.Addr()
	if m.set.v6 {
		h := make([]byte, 40)
		h[0], h[6], h[7] = 6<<4, ip.ProtoTCP, 64
		binary.BigEndian.PutUint16(h[4:], uint16(20+p.QLen))
		copy(h[8:], local.AsSlice())
		copy(h[24:], remote.AsSlice())
		return append(h, l4...)
	}
	h := make([]byte, 20)
	h[0], h[8], h[9] = 4<<4|5, 64, ip.ProtoTCP
	binary.BigEndian.PutUint16(h[2:], uint16(40+p.QLen))
	copy(h[12:], local.AsSlice())
	copy(h[16:], remote.AsSlice())
	return append(h, l4...)
}
