// Package nicshare shares a network interface among processes, by a link for each.
//
//	receive:   NIC: XDP, steering; an entry names a link  ->  vb => vp  ->  AF_XDP socket of the process
//	transmit:  AF_XDP or packet socket on vp  =>  vb: tcx, filter  ->  bpf_redirect(NIC)
//
// A link is a veth pair. Its near end vb is in the NIC's namespace. Its far end vp is
// in a namespace that only the sockets of a Grant hold: when the process that has
// them dies, the kernel removes both ends. One table steers received packets and
// filters sent ones: a packet leaves by a link only if its answer would come in by
// it. So Allow and Revoke are one step for both directions.
//
// Programs, maps and attachments are pinned below a directory of a bpf filesystem.
// They outlive the process that made them, and the next one takes them over.
package nicshare

import (
	"errors"
	"fmt"
	"net/netip"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver/afxdp"
)

// Config is the interface that Open shares, and how. MaxLinks, MaxPorts and MaxFlows
// are those of the maps, and count only when nothing is pinned yet.
type Config struct {
	// Interface is its name. It belongs to the network namespace of the thread that
	// calls Open, unless InNS leads to another.
	Interface string
	// PinDir is a directory that only root may enter, in a bpf filesystem. Each NIC
	// has a directory of its own in it. It is made if there is none.
	PinDir   string
	Mode     Mode
	MaxLinks int // default 512, at most 4096
	MaxPorts int // default 262144
	MaxFlows int // default 262144
	// InNS calls its argument inside the interface's network namespace, on one
	// thread. nil: the current one.
	InNS func(func() error) error
	Log  *zap.Logger // nil: silent
}

// Mode says where the XDP program of the NIC runs, as in driver/afxdp.
type Mode int

const (
	// ModeAuto takes native where the driver runs it, but generic on virtual links,
	// which then hand over packets of 64 KiB whole.
	ModeAuto Mode = iota
	// ModeNative is in the driver.
	ModeNative
	// ModeGeneric is in the kernel's receive path.
	ModeGeneric
)

// String is the mode's name in driver/afxdp.
func (m Mode) String() string { return afxdp.Mode(m).String() }

func (c *Config) defaults() error {
	def := func(v *int, d, most int) error {
		if *v == 0 {
			*v = d
		}
		if *v < 1 || *v > most {
			return fmt.Errorf("nicshare: %d of Config: 1 to %d: %w", *v, most, unix.EINVAL)
		}
		return nil
	}
	if c.InNS == nil {
		c.InNS = func(f func() error) error { return f() }
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	return errors.Join(def(&c.MaxLinks, 512, 4096), def(&c.MaxPorts, 4*afxdp.DefaultMaxPorts, 1<<20), def(&c.MaxFlows, afxdp.DefaultMaxFlows, 1<<22))
}

// Port is a local port, or a multicast group at one.
type Port struct {
	Proto uint8 // unix.IPPROTO_TCP or IPPROTO_UDP
	// Addr is the local address, or the group. The zero Addr is any address of the
	// interface, of both families; the unspecified one of a family, any of that
	// family.
	Addr netip.Addr
	Port uint16 // not 0
}

// Flow is a connection that goes another way than its port's entry says.
type Flow struct {
	Proto         uint8
	Local, Remote netip.AddrPort // exact
}
