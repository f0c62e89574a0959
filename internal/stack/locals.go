package stack

import (
	"net/netip"

	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/ip"
)

// locals knows which packets are to us: the addresses of the interface, and the
// VLANs above it. It belongs to the holder of the stack lock.
type locals struct {
	net   control.Network
	link  int            // the interface's index
	last  netip.Addr     // the last address that was found to be ours
	vlans map[uint16]int // tags of the links above the interface, and their indices
}

// has reports whether a is one of this interface's addresses, or one that the
// host would answer for on it.
func (l *locals) has(a netip.Addr) bool {
	if a == l.last {
		return true
	}
	if _, ok := l.net.Local(a); !ok {
		return false
	}
	l.last = a
	return true
}

// onVLAN reports whether a tagged packet is on this interface, or on a VLAN above
// it: a trunk also carries VLANs that are other networks (IEEE 802.1Q). VID 0 is
// no VLAN but a priority. Of VLANs within VLANs we have none.
func (l *locals) onVLAN(p *ip.Packet) bool {
	return p.Tags == 1 && (p.VLAN == 0 || l.vlans[p.VLAN] != 0)
}

// linkOf returns the index of the link that a packet for which onVLAN holds
// came by.
func (l *locals) linkOf(p *ip.Packet) int {
	if p.VLAN != 0 {
		return l.vlans[p.VLAN]
	}
	return l.link
}

// changed forgets what a change in the kernel may have made wrong.
func (l *locals) changed(c control.Change) {
	l.last = netip.Addr{}
	if c.Kind == control.LinkChanged || c.Kind == control.LinkGone {
		l.learnVLANs()
	}
}

func (l *locals) learnVLANs() {
	l.vlans = make(map[uint16]int)
	for _, k := range l.net.Links() {
		if k.VLAN != 0 && k.Parent == l.link && k.Up {
			l.vlans[k.VLAN] = k.Index
		}
	}
}
