package stack

import "github.com/onload-go/onload/internal/control"

// SetTOS changes the type of service or traffic class of c's packets; the ECN bits
// are TCP's. Rules may lead them elsewhere by that: an IPv6 connection takes the
// route of class 0 then (Linux's inet6_csk_route_socket).
func (c *TCPConn) SetTOS(tos uint8) error {
	return c.setHeader(func(k *dstKey) {
		if tos &^= 3; tos == k.tos {
			return
		}
		k.setTOS(tos)
		if !k.Remote.Is4() {
			k.routeTOS = 0
		}
	})
}

// SetTTL changes the time to live or hop limit of c's packets; 0 is the route's.
func (c *TCPConn) SetTTL(ttl uint8) error {
	return c.setHeader(func(k *dstKey) { k.ttl = ttl })
}

// setHeader moves c to the destination whose key change makes.
func (c *TCPConn) setHeader(change func(*dstKey)) error {
	return c.control(func() {
		s, k := c.s, c.dst.key
		change(&k)
		if k == c.dst.key {
			return
		}
		_, known := s.dests.all[k]
		c.dst = s.dests.another(c.dst, k)
		if !known {
			c.dst.ready = false // its header is still the other's
			s.applyChange(c.dst, control.Change{Kind: control.RouteChanged})
			s.tell()
		}
	})
}
