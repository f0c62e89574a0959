package harness

import (
	"errors"
	"fmt"

	"github.com/onload-go/onload/internal/lab"
)

// Network holds the veth pairs, each made when it is first wanted.
type Network struct {
	pairs map[pairKey]*lab.Pair
	Notes []string // what a reader of the report must know
}

type pairKey struct {
	mtu       int
	noOffload bool
}

// NewNetwork has no pair yet.
func NewNetwork() *Network { return &Network{pairs: map[pairKey]*lab.Pair{}} }

// Pair is the pair with that MTU, with or without offloads.
func (n *Network) Pair(mtu int, noOffload bool) (*lab.Pair, error) {
	k := pairKey{mtu, noOffload}
	if p := n.pairs[k]; p != nil {
		return p, nil
	}
	p, err := lab.MakePair(lab.Options{MTU: mtu, Neighbors: true,
		NoTxCsum: noOffload, NoTSO: noOffload, NoGSO: noOffload, NoGRO: noOffload})
	if err != nil {
		return nil, err
	}
	for _, ns := range []*lab.NS{p.A, p.B} {
		for key, v := range map[string]string{
			// As many connections as there are ports.
			"net.ipv4.ip_local_port_range": "1024 65535",
			"net.ipv4.tcp_tw_reuse":        "1",
			"net.core.somaxconn":           "65535",
		} {
			if err := ns.Sysctl(key, v); err != nil {
				n.note(fmt.Sprintf("%s could not be set to %s: %v", key, v, err))
			}
		}
	}
	n.pairs[k] = p
	return p, nil
}

// note keeps a line for the report, once.
func (n *Network) note(s string) {
	for _, have := range n.Notes {
		if have == s {
			return
		}
	}
	n.Notes = append(n.Notes, s)
}

// Close removes all pairs.
func (n *Network) Close() error {
	var errs []error
	for _, p := range n.pairs {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}
