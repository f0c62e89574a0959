package neigh

import (
	"net/netip"

	"github.com/onload-go/onload/ip"
)

// allNodes is the group of all hosts on the link (RFC 4291, 2.7.1).
var allNodes = netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 15: 1})

// inputNDP takes the valid message in h.ndp. Routers' messages count where they are asked
// for.
func (h *Host) inputNDP(now int64) {
	switch h.ndp.Type {
	case ip.NeighborSolicitation:
		h.solicitation(now)
	case ip.NeighborAdvertisement:
		h.advertisement(now)
	case ip.RouterAdvertisement:
		if h.slaac != nil {
			h.slaac.advertisement(now)
		}
	}
}

// solicitation answers a neighbour that asks for an address of ours (RFC 4861,
// 7.2.3 and 7.2.4).
func (h *Host) solicitation(now int64) {
	m, p := &h.ndp, &h.packet
	o := h.ours(m.Target)
	if o == nil || p.Dst != m.Target && p.Dst != ip.SolicitedNode(m.Target) && p.Dst != allNodes && h.ours(p.Dst) == nil {
		return
	}
	asker, to := p.Src, p.SrcMAC
	switch {
	case asker.IsUnspecified():
		// It asks for an address before it takes it. So do we, or we have it
		// already (RFC 4862, 5.4.3 and 5.4.4).
		if o.state == tentative {
			h.conflict(m.Target, p.SrcMAC, now)
			return
		}
		asker = allNodes
		to, _ = ip.MulticastMAC(allNodes)
	case o.state != ready:
		return
	case h.ours(asker) != nil:
		h.conflict(asker, p.SrcMAC, now)
		return
	case m.HasMAC:
		to = m.MAC
		h.learn(news{addr: asker, mac: m.MAC, override: true, create: true}, now)
	}
	if o.state != ready {
		return
	}
	h.sendNDP(to, o.Addr(), asker, ip.NDP{
		Type: ip.NeighborAdvertisement, Target: o.Addr(), Solicited: asker != allNodes, Override: true, MAC: h.mac, HasMAC: true,
	})
}

// advertisement learns where a neighbour is (RFC 4861, 7.2.5).
func (h *Host) advertisement(now int64) {
	m, p := &h.ndp, &h.packet
	if h.ours(m.Target) != nil {
		h.conflict(m.Target, p.SrcMAC, now) // RFC 4862, 5.4.4
		return
	}
	n := news{addr: m.Target, mac: m.MAC, solicited: m.Solicited, override: m.Override}
	if e := h.cache[m.Target]; !m.HasMAC {
		if e == nil || e.mac == [6]byte{} {
			return // it answers, but not from where
		}
		n.mac = e.mac // the answer to a question that went to that address
	}
	h.learn(n, now)
}

// solicit6 asks for e (RFC 4861, 7.2.2; 7.3.3).
func (h *Host) solicit6(e *entry) {
	src, ok := h.source(e.addr)
	if !ok {
		return
	}
	dst, to := e.addr, e.mac
	if e.state != probe {
		dst = ip.SolicitedNode(e.addr)
		to, _ = ip.MulticastMAC(dst)
	}
	h.sendNDP(to, src, dst, ip.NDP{Type: ip.NeighborSolicitation, Target: e.addr, MAC: h.mac, HasMAC: true})
}

// sendNDP sends m from src to dst, the host with address to. No router forwards it:
// its hop limit says so (RFC 4861, 4.3).
func (h *Host) sendNDP(to [6]byte, src, dst netip.Addr, m ip.NDP) {
	var hdr ip.Header
	hdr.Init(h.mac, to, 0, src, dst, ip.ProtoICMPv6, 0, 255)
	n := m.Put(h.frame[hdr.Len():], src, dst)
	hdr.Put(h.frame[:], n, 0, 0)
	h.out.Send(h.frame[:hdr.Len()+n])
}
