package metrics

import (
	"net/netip"

	onload "github.com/onload-go/onload/net"
)

// choose returns the listeners that have series of their own, those of one address
// (SO_REUSEPORT) put together, and how many addresses have none.
func (c *Collector) choose(all []onload.ListenerStats) (own []onload.ListenerStats, others int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	open := map[netip.AddrPort]bool{}
	for _, l := range all {
		open[l.Addr] = true
	}
	for a := range c.listed {
		if !open[a] {
			delete(c.listed, a)
		}
	}
	at := map[netip.AddrPort]int{}
	for _, l := range all {
		if !c.listed[l.Addr] && len(c.listed) < c.most {
			c.listed[l.Addr] = true
		}
		if !c.listed[l.Addr] {
			continue
		}
		n, ok := at[l.Addr]
		if !ok {
			at[l.Addr] = len(own)
			own = append(own, l)
			continue
		}
		o := &own[n]
		o.Waiting += l.Waiting
		o.Backlog += l.Backlog
		o.HalfOpen += l.HalfOpen
		o.Accepted += l.Accepted
		o.Overflows += l.Overflows
	}
	return own, len(open) - len(own)
}
