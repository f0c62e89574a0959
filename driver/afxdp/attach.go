package afxdp

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver/afxdp/bpf"
)

// attachment is one way to attach the program.
type attachment struct {
	mode  Mode
	frags bool // the program takes packets of several buffers
}

// attachments lists what to try, best first. A driver without multi-buffer
// support refuses a frags program, or one without at a large MTU.
func attachments(c *Config, l *linkInfo) []attachment {
	native := []attachment{{ModeNative, true}, {ModeNative, false}}
	generic := []attachment{{ModeGeneric, true}, {ModeGeneric, false}}
	const runs = actBasic | actRedirect
	switch {
	case c.Mode == ModeNative || c.ZeroCopy == ZeroCopyRequire:
		return native
	case c.Mode == ModeGeneric, preferGeneric(c, l), l.known && l.features&runs != runs:
		return generic
	}
	return append(native, generic...)
}

// preferGeneric reports whether generic mode is better although the driver has a
// native one, as on virtual links. One run of bench_test.go on veth, 2 shared
// cores, Linux 6.18:
//
//	                                native       generic
//	round trip 64 B, p50            4.7 us       5.3 us
//	round trip 1500 B, p50          5.6 us       4.8 us
//	64 B frames                     0.62 Mpps    0.57 Mpps
//	1514 B frames                   0.45 Mpps    0.45 Mpps, 5% lost
//	65514 B frames                  26 Gbit/s    33 Gbit/s
//	from a kernel socket, MTU 1500  8 Gbit/s     33 Gbit/s, 64 KiB packets
//
// Round trips differ less than between runs; what decides is the last line.
// While a native program is attached the peer's kernel must cut its packets
// to the MTU; a generic one gets them whole. The price: frames pass the
// kernel's per-CPU backlog, which can reorder a flow, and drops under a
// flood.
//
// The kernel numbers the queues of veth wrongly in generic mode (a frame from
// the peer's transmit queue i > 0 is taken to be of receive queue i-1), which
// matters only where some queues are not ours: then native.
func preferGeneric(c *Config, l *linkInfo) bool {
	return l.virtual() && len(c.Queues) == l.rx
}

// attach loads the program and attaches it, in the best way that works.
func (d *Device) attach(c *Config, l *linkInfo) (Mode, error) {
	var errs []error
	for _, a := range attachments(c, l) {
		reads := !lacks(unix.CAP_PERFMON)
		err := d.load(c, l.most, a, reads)
		if err != nil && reads {
			err = d.load(c, l.most, a, false) // as where the kernel is locked down
		}
		if err != nil {
			return 0, err
		}
		flags := link.XDPDriverMode
		if a.mode == ModeGeneric {
			flags = link.XDPGenericMode
		}
		d.link, err = link.AttachXDP(link.XDPOptions{Program: d.objs.OnloadSteer, Interface: l.index, Flags: flags})
		if err == nil {
			if !a.frags {
				c.Log.Warn("afxdp: the driver has no multi-buffer XDP: packets larger than about 3500 bytes cannot be received, "+
					"and the link's MTU cannot be raised above that", zap.String("interface", l.name), zap.Int("mtu", l.mtu))
			}
			return a.mode, nil
		}
		d.link = nil
		_ = d.objs.Close()
		if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST) {
			if now, e := lookupLink(fmt.Sprint(l.index)); e == nil && now.prog != 0 {
				return 0, foreignProgram(now)
			}
		}
		how := a.mode.String()
		if !a.frags {
			how += " without multi-buffer"
		}
		err = denied(fmt.Sprintf("attach to %s (%s, MTU %d), %s", l.name, l.driver, l.mtu, how), err, unix.CAP_NET_ADMIN)
		if errors.Is(err, unix.EPERM) {
			return 0, err
		}
		if errors.Is(err, unix.ENOSPC) {
			err = fmt.Errorf("%w (its peer has more transmit queues than this end receive queues)", err)
		}
		c.Log.Debug("afxdp: attach refused", zap.Error(err))
		errs = append(errs, err)
	}
	return 0, errors.Join(errs...)
}

// load loads program and maps, sized for c and the most queues that the interface
// may have. reads says that the program may read the kernel's memory, for the segment
// size of joined datagrams and the interface's address. Without it, the program leaves
// datagrams that are larger than the MTU to the kernel.
func (d *Device) load(c *Config, most int, a attachment, reads bool) error {
	spec, err := bpf.LoadSteer()
	if err != nil {
		return fmt.Errorf("afxdp: %w", err)
	}
	spec.Maps[bpf.SteerMapXsks].MaxEntries = uint32(most)
	spec.Maps[bpf.SteerMapPorts].MaxEntries = uint32(c.MaxPorts)
	spec.Maps[bpf.SteerMapFlows].MaxEntries = uint32(c.MaxFlows)
	if !a.frags {
		spec.Programs[bpf.SteerProgOnloadSteer].Flags &^= unix.BPF_F_XDP_HAS_FRAGS
	}
	if err := spec.Variables[bpf.SteerVarInterface].Set(uint32(d.index)); err != nil {
		return fmt.Errorf("afxdp: %w", err)
	}
	if err := spec.Variables[bpf.SteerVarGroupPriority].Set(uint32(GroupPriority())); err != nil {
		return fmt.Errorf("afxdp: the program's constants: %w", err)
	}
	if a.mode == ModeGeneric {
		d.returns.from = nobody()
		if err := spec.Variables[bpf.SteerVarReturned].Set(native.Uint64(append(d.returns.from[:], 0, 0))); err != nil {
			return fmt.Errorf("afxdp: the program's constants: %w", err)
		}
	}
	if reads && !reveal(spec, a.mode) {
		c.Log.Debug("afxdp: the kernel does not describe itself: datagrams that it joined are not told apart, nor is a new address of the interface known at once")
	}
	d.objs = bpf.SteerObjects{}
	err = spec.LoadAndAssign(&d.objs, nil)
	if ve := (*ebpf.VerifierError)(nil); errors.As(err, &ve) {
		return refusedProgram(err)
	}
	if err != nil {
		return denied("load of the XDP program", err, unix.CAP_BPF, unix.CAP_NET_ADMIN)
	}
	return nil
}
