package nicshare

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// LinkCounters says what became of a link's packets, in the order of enum counter of
// filter.c.
type LinkCounters struct {
	Sent         uint64 // left by the interface, packets before segmentation; of these:
	SentFragment uint64 // fragments
	// Dropped by the filter, because of:
	DropMAC      uint64 // another source address, or a destination that does not fit the IP address
	DropVLAN     uint64 // a tag
	DropProto    uint64 // neither TCP nor UDP over IPv4 or IPv6
	DropHeader   uint64 // IP options, extension headers, impossible lengths
	DropFragment uint64 // no first fragment is known, or one that hides the ports
	DropSource   uint64 // an address or a port that is not the process's
	DropChecksum uint64 // a request to write a checksum where none is
	DropSize     uint64 // larger than the MTU, or in segments larger than it
	DropRate     uint64 // more than RateBytes or RatePackets
}

func (c *LinkCounters) fields() []*uint64 {
	return []*uint64{
		&c.Sent, &c.SentFragment, &c.DropMAC, &c.DropVLAN, &c.DropProto, &c.DropHeader,
		&c.DropFragment, &c.DropSource, &c.DropChecksum, &c.DropSize, &c.DropRate,
	}
}

// Dropped is the sum of what the filter dropped.
func (c LinkCounters) Dropped() (n uint64) {
	for _, v := range c.fields()[2:] {
		n += *v
	}
	return n
}

// Counters asks the filter; not for the hot path.
func (l *Link) Counters() (c LinkCounters, err error) {
	fields := c.fields()
	for i, to := range fields {
		var each []uint64
		if err := l.n.filter.Sent.Lookup(uint32(l.id*len(fields)+i), &each); err != nil {
			return c, fmt.Errorf("nicshare: counters: %w", err)
		}
		for _, n := range each {
			*to += n
		}
	}
	return c, nil
}

// clearCounters forgets the counters of the link that had the ID before.
func (n *NIC) clearCounters(id int) error {
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("nicshare: processors: %w", err)
	}
	zero := make([]uint64, cpus)
	each := len(new(LinkCounters).fields())
	for i := range each {
		if err := n.filter.Sent.Put(uint32(id*each+i), zero); err != nil {
			return fmt.Errorf("nicshare: counters: %w", err)
		}
	}
	return nil
}
