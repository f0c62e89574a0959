package main

import (
	"errors"
	"fmt"

	"github.com/onload-go/onload/internal/lab"
)

// network holds the veth pairs, each made when it is first wanted.
type network struct {
	pairs map[pairKey]*lab.Pair
	notes []string
}

type pairKey struct {
	mtu       int
	noOffload bool
}

func newNetwork() *network { return &network{pairs: map[pairKey]*lab.Pair{}} }

func (n *network) pair(mtu int, noOffload bool) (*lab.Pair, error) {
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
func (n *network) note(s string) {
	for _, have := range n.notes {
		if have == s {
			return
		}
	}
	n.notes = append(n.notes, s)
}

func (n *network) close() error {
	var errs []error
	for _, p := range n.pairs {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}
