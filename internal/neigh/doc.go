// Package neigh is a host on a link that no kernel stands behind: it finds the
// link-layer addresses of neighbours and answers for its own, by ARP (RFC 826,
// RFC 5227) and neighbour discovery (RFC 4861, RFC 4862), finds out addresses that
// somebody else has, answers pings, is a client of DHCP (RFC 2131),
// makes addresses of what routers advertise (RFC 4862), and tells them of its groups
// (IGMP, RFC 3376; MLD, RFC 3810).
//
// A Host is a state machine. Frames and the time go in, frames and news come out
// through Out. It has no goroutine, no clock and no I/O of its own. Packets that
// wait for a neighbour are its user's: a stack parks them.
package neigh
