package nicshare

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"

	steer "github.com/onload-go/onload/driver/afxdp/bpf"
	"github.com/onload-go/onload/internal/broker/bpf"
)

// forget forgets what the programs know of the link that had the ID before: its counters,
// and the datagrams in fragments that it was sending and receiving.
func (n *NIC) forget(l *Link) error {
	return errors.Join(n.clearCounters(l.id), n.forgetFirsts(l.id), n.forgetFragments(l.owner()))
}

// forgetFirsts forgets the first fragments that the link has sent.
func (n *NIC) forgetFirsts(id int) error {
	each := int(n.filter.Firsts.MaxEntries()) / n.c.MaxLinks
	keys := make([]uint32, each)
	for i := range keys {
		keys[i] = uint32(id*each + i)
	}
	if _, err := n.filter.Firsts.BatchUpdate(keys, make([]bpf.FilterFirst, each), nil); err != nil {
		return fmt.Errorf("nicshare: sent fragments: %w", err)
	}
	return nil
}

// forgetFragments forgets the received fragments that were the link's.
func (n *NIC) forgetFragments(owner uint32) error {
	most := n.steer.Frags.MaxEntries()
	keys, values := make([]steer.SteerFragKey, most), make([]steer.SteerFragState, most)
	var at ebpf.MapBatchCursor
	for {
		k, err := n.steer.Frags.BatchLookup(&at, keys, values, nil)
		last := errors.Is(err, ebpf.ErrKeyNotExist)
		if err != nil && !last {
			return fmt.Errorf("nicshare: received fragments: %w", err)
		}
		for i := range k {
			if values[i].Whose != owner {
				continue
			}
			if err := missing(n.steer.Frags.Delete(keys[i])); err != nil {
				return fmt.Errorf("nicshare: received fragment: %w", err)
			}
		}
		if last {
			return nil
		}
	}
}
