package neigh

import (
	"net/netip"

	"github.com/onload-go/onload/ip"
)

var broadcast = [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// inputARP takes the message in h.arp, as RFC 826 has it and RFC 5227 refines it.
func (h *Host) inputARP(now int64) {
	a := &h.arp
	if a.SenderMAC == h.mac {
		return // our own, which a switch or a bond sent back
	}
	target := h.ours(a.Target)
	if h.ours(a.Sender) != nil {
		h.conflict(a.Sender, a.SenderMAC, now) // RFC 5227, 2.1.1 and 2.4
		return
	}
	if a.Sender.IsUnspecified() {
		// Another host is about to take the address that we are about to take
		// (2.1.1), or one that we have, which our answer tells it.
		switch {
		case target == nil || a.Op != ip.ARPRequest:
		case target.state == tentative:
			h.conflict(a.Target, a.SenderMAC, now)
		case target.state == ready:
			h.replyARP(target.Addr())
		}
		return
	}
	mine := target != nil && target.state == ready
	n := news{addr: a.Sender, mac: a.SenderMAC, override: true, create: mine && a.Op == ip.ARPRequest}
	if e := h.cache[a.Sender]; e != nil {
		n.solicited = a.Op == ip.ARPReply && mine && h.packet.DstMAC == h.mac && (e.state == incomplete || e.state == probe)
	}
	h.learn(n, now)
	if mine && a.Op == ip.ARPRequest {
		h.replyARP(target.Addr())
	}
}

// replyARP answers the request in h.arp.
func (h *Host) replyARP(from netip.Addr) {
	h.sendARP(h.arp.SenderMAC, ip.ARP{Op: ip.ARPReply, Sender: from, TargetMAC: h.arp.SenderMAC, Target: h.arp.Sender})
}

// solicit4 asks for e. Nobody is asked before we have an address: the request of a
// host without one would be a probe (RFC 5227, 1.1).
func (h *Host) solicit4(e *entry) {
	src, ok := h.source(e.addr)
	if !ok {
		return
	}
	to := broadcast
	if e.state == probe {
		to = e.mac // RFC 1122, 2.3.2.1 (2)
	}
	h.sendARP(to, ip.ARP{Op: ip.ARPRequest, Sender: src, Target: e.addr})
}

func (h *Host) sendARP(to [6]byte, a ip.ARP) {
	a.SenderMAC = h.mac
	h.out.Send(h.frame[:a.Put(h.frame[:], to, 0)])
}
