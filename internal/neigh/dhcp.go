package neigh

import (
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// dhcp is a client of DHCP for IPv4 (RFC 2131; figure 5 has its states). Its address is
// one of the Host's: the Host finds out whether somebody else has it.
type dhcp struct {
	h     *Host
	state dhcpState
	xid   dhcpv4.TransactionID
	began int64 // of the transaction
	at    int64 // when something is due
	tries int   // messages in the state
	fails int   // transactions without a lease, since the last one

	lease lease // offered, or ours
	holds bool  // lease.addr is ours
}

type dhcpState uint8

const (
	dhcpInit       dhcpState = iota // until at
	dhcpSelecting                   // any server's offer is welcome
	dhcpRequesting                  // the server is to confirm its offer
	dhcpChecking                    // does another host have the address?
	dhcpBound
	dhcpRenewing  // the server is to prolong the lease
	dhcpRebinding // any server is to
	dhcpRebooting // servers are to say whether the lease is valid on this link (INIT-REBOOT)
)

const (
	// dhcpStart bounds the delay of the first message, ns. The RFC's 10 s (4.4.1) are
	// for a building whose power comes back; a program that starts does not wait.
	dhcpStart = int64(100 * time.Millisecond)
	// Messages are repeated after 4, 8, 16, 32, 64 s, each a second more or less (4.1).
	dhcpFirst, dhcpLast = int64(4 * time.Second), int64(64 * time.Second)
	// dhcpRequests is how many requests an offer is worth.
	dhcpRequests = 4
	// dhcpDecline is the time without messages after an address was declined (3.1, 5).
	dhcpDecline = int64(10 * time.Second)
	// dhcpRenew is the least time between requests for more time (4.4.5).
	dhcpRenew = int64(60 * time.Second)
)

func newDHCP(h *Host, now int64) *dhcp {
	d := &dhcp{h: h}
	d.restart(now, h.rng.Int64N(dhcpStart))
	return d
}

// restart begins anew after a delay.
func (d *dhcp) restart(now, delay int64) { d.enter(dhcpInit, now+delay) }

// enter puts the client into a state in which something is due at a time.
func (d *dhcp) enter(s dhcpState, at int64) {
	d.state, d.tries = s, 0
	d.wake(at)
}

func (d *dhcp) wake(at int64) {
	d.at = at
	d.h.at(at)
}

// advance does what is due.
func (d *dhcp) advance(now int64) {
	if now < d.at {
		d.h.at(d.at)
		return
	}
	switch d.state {
	case dhcpInit:
		d.transaction(now)
		d.enter(dhcpSelecting, now)
		d.advance(now)
	case dhcpSelecting:
		d.send(dhcpv4.MessageTypeDiscover, now)
		d.wake(now + d.backoff())
	case dhcpRequesting:
		if d.tries == dhcpRequests {
			d.again(now)
			return
		}
		d.send(dhcpv4.MessageTypeRequest, now)
		d.wake(now + d.backoff())
	case dhcpChecking: // the Host says what comes of it
		d.wake(never)
	case dhcpBound:
		d.transaction(now)
		d.enter(dhcpRenewing, now)
		d.advance(now)
	case dhcpRenewing:
		if now >= d.lease.rebind {
			d.enter(dhcpRebinding, now)
			d.advance(now)
			return
		}
		d.send(dhcpv4.MessageTypeRequest, now)
		d.wake(now + d.half(d.lease.rebind-now))
	case dhcpRebinding:
		if now >= d.lease.end {
			d.drop(now)
			d.restart(now, 0)
			d.advance(now)
			return
		}
		d.send(dhcpv4.MessageTypeRequest, now)
		d.wake(now + d.half(d.lease.end-now))
	case dhcpRebooting:
		if d.tries == dhcpRequests || now >= d.lease.end {
			d.enter(dhcpBound, d.lease.renew) // the lease is ours for its time (RFC 2131, 3.2 (3))
			return
		}
		d.send(dhcpv4.MessageTypeRequest, now)
		d.wake(min(now+d.backoff(), d.lease.end))
	}
}

// transaction begins one: servers' answers name it.
func (d *dhcp) transaction(now int64) {
	for i := range d.xid {
		d.xid[i] = byte(d.h.rng.Uint32())
	}
	d.began = now
}

// backoff is the time until a message is sent again.
func (d *dhcp) backoff() int64 {
	return min(dhcpFirst<<max(d.tries-1, 0), dhcpLast) - int64(time.Second) + d.h.rng.Int64N(2*int64(time.Second))
}

// half is the time until the next request for more time, of which left remains: half of
// it, a minute at least, and not more than all (RFC 2131, 4.4.5).
func (d *dhcp) half(left int64) int64 { return min(max(left/2, dhcpRenew), left) }

// again begins anew after a transaction that gave no lease, later with each.
func (d *dhcp) again(now int64) {
	d.fails = min(d.fails+1, 6)
	d.restart(now, int64(time.Second)<<d.fails)
}

// input takes a server's message of this transaction.
func (d *dhcp) input(m *dhcpv4.DHCPv4, via [6]byte, now int64) {
	switch m.MessageType() {
	case dhcpv4.MessageTypeOffer:
		if d.state != dhcpSelecting {
			return // we have chosen: the first one (RFC 2131, 4.4.1)
		}
		l, ok := readLease(m, via, now)
		if !ok {
			return
		}
		d.lease = l
		d.enter(dhcpRequesting, now)
		d.advance(now)
	case dhcpv4.MessageTypeAck:
		d.acknowledged(m, via, now)
	case dhcpv4.MessageTypeNak:
		d.refused(m, now)
	}
}

// acknowledged takes the confirmation of an offer, or more time (RFC 2131, 3.1 (4)).
func (d *dhcp) acknowledged(m *dhcpv4.DHCPv4, via [6]byte, now int64) {
	if d.state != dhcpRequesting && d.state != dhcpRenewing && d.state != dhcpRebinding && d.state != dhcpRebooting {
		return
	}
	l, ok := readLease(m, via, d.began)
	if !ok || d.state == dhcpRequesting && (l.server != d.lease.server || l.addr.Addr() != d.lease.addr.Addr()) {
		return
	}
	if d.holds && l.addr != d.lease.addr {
		d.drop(now) // the server gives another one
	}
	d.lease, d.fails = l, 0
	if d.holds {
		d.enter(dhcpBound, l.renew)
		d.h.tell()
		return
	}
	d.enter(dhcpChecking, never)
	d.h.add(l.addr, byDHCP, now)
}

// refused takes a NAK: the lease, or the offer, is void (RFC 2131, 3.1 (5), 4.4.5).
func (d *dhcp) refused(m *dhcpv4.DHCPv4, now int64) {
	switch d.state {
	case dhcpRequesting:
		if addr4(m.ServerIdentifier()) != d.lease.server {
			return // another server's, whose offer we did not take
		}
	case dhcpRenewing, dhcpRebinding, dhcpRebooting:
		d.drop(now)
	default:
		return
	}
	d.again(now)
}

// free takes the news that nobody else has the address.
func (d *dhcp) free() {
	d.holds = true
	d.enter(dhcpBound, d.lease.renew)
	d.h.tell()
}

// taken takes the news that another host has the address: the server is told, and asked
// for another one, not at once (RFC 2131, 3.1 (5), 4.4.4).
func (d *dhcp) taken(now int64) {
	d.transaction(now)
	d.send(dhcpv4.MessageTypeDecline, now)
	d.restart(now, dhcpDecline)
}

// drop ends the use of the lease.
func (d *dhcp) drop(now int64) {
	if d.holds {
		d.holds = false
		d.h.remove(d.lease.addr, byDHCP, now)
		d.h.tell()
	}
}

// release gives the lease back (RFC 2131, 4.4.6).
func (d *dhcp) release(now int64) {
	if !d.holds {
		return
	}
	d.transaction(now)
	d.send(dhcpv4.MessageTypeRelease, now)
	d.drop(now)
	d.enter(dhcpInit, never)
}
