package afxdp

import (
	"errors"
	"fmt"
	"strings"

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

// way loads the program, and attaches it.
type way struct {
	// load is called with reads, which says that the program may read the kernel's
	// memory, and without it if that fails.
	load func(a attachment, reads bool) (*ebpf.Program, error)
	put  func(*ebpf.Program, link.XDPAttachFlags) error
	undo func() // of load; may be nil
}

// attach loads the program and attaches it, in the best way that works.
func (d *Device) attach(c *Config, l *linkInfo) (Mode, error) {
	a, err := attachBest(c, l, way{
		load: func(a attachment, reads bool) (*ebpf.Program, error) {
			err := d.load(c, l.most, a, reads)
			return d.objs.OnloadSteer, err
		},
		put: func(p *ebpf.Program, flags link.XDPAttachFlags) (err error) {
			d.link, err = link.AttachXDP(link.XDPOptions{Program: p, Interface: l.index, Flags: flags})
			if err != nil {
				d.link = nil
			}
			return err
		},
		undo: func() { _ = d.objs.Close() },
	})
	return a.mode, err
}

// attachBest goes through the attachments until one works.
func attachBest(c *Config, l *linkInfo, w way) (attachment, error) {
	var errs []error
	for _, a := range attachments(c, l) {
		reads := !lacks(unix.CAP_PERFMON)
		p, err := w.load(a, reads)
		if err != nil && reads {
			p, err = w.load(a, false) // as where the kernel is locked down
		}
		if err != nil {
			return a, err
		}
		flags := link.XDPDriverMode
		if a.mode == ModeGeneric {
			flags = link.XDPGenericMode
		}
		if err = w.put(p, flags); err == nil {
			if !a.frags {
				c.Log.Warn("afxdp: the driver has no multi-buffer XDP: packets larger than about 3500 bytes cannot be received, "+
					"and the link's MTU cannot be raised above that", zap.String("interface", l.name), zap.Int("mtu", l.mtu))
			}
			return a, nil
		}
		if w.undo != nil {
			w.undo()
		}
		if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST) {
			if now, e := lookupLink(fmt.Sprint(l.index)); e == nil && now.prog != 0 {
				return a, foreignProgram(now)
			}
		}
		how := a.mode.String()
		if !a.frags {
			how += " without multi-buffer"
		}
		err = denied(fmt.Sprintf("attach to %s (%s, MTU %d), %s", l.name, l.driver, l.mtu, how), err, unix.CAP_NET_ADMIN)
		if errors.Is(err, unix.EPERM) {
			return a, err
		}
		if errors.Is(err, unix.ENOSPC) {
			err = fmt.Errorf("%w (its peer has more transmit queues than this end receive queues)", err)
		}
		c.Log.Debug("afxdp: attach refused", zap.Error(err))
		errs = append(errs, err)
	}
	err := errors.Join(errs...)
	if c.ZeroCopy == ZeroCopyRequire && c.Mode != ModeNative {
		err = &ZeroCopyError{Interface: l.name, Err: err,
			Why: "it needs XDP in native mode, which driver " + l.driver + " refused: " + strings.ReplaceAll(err.Error(), "\n", "; ")}
	}
	return attachment{}, err
}

// load loads program and maps, sized for c and the most queues that the interface
// may have.
func (d *Device) load(c *Config, most int, a attachment, reads bool) error {
	spec, err := steerSpec(d.index, a, reads, c.Log)
	if err != nil {
		return err
	}
	spec.Maps[bpf.SteerMapXsks].MaxEntries = uint32(most)
	spec.Maps[bpf.SteerMapPorts].MaxEntries = uint32(c.MaxPorts)
	spec.Maps[bpf.SteerMapFlows].MaxEntries = uint32(c.MaxFlows)
	if a.mode == ModeGeneric {
		d.returns.from = nobody()
		if err := spec.Variables[bpf.SteerVarReturned].Set(native.Uint64(append(d.returns.from[:], 0, 0))); err != nil {
			return fmt.Errorf("afxdp: the program's constants: %w", err)
		}
	}
	d.objs = bpf.SteerObjects{}
	return loadError(spec.LoadAndAssign(&d.objs, nil))
}

// steerSpec is the program for the interface with that index. reads says that it may
// read the kernel's memory, for the segment size of joined datagrams and the
// interface's address. Without it, the program leaves datagrams that are larger than
// the MTU to the kernel.
func steerSpec(index int, a attachment, reads bool, log *zap.Logger) (*ebpf.CollectionSpec, error) {
	spec, err := bpf.LoadSteer()
	if err != nil {
		return nil, fmt.Errorf("afxdp: %w", err)
	}
	if !a.frags {
		spec.Programs[bpf.SteerProgOnloadSteer].Flags &^= unix.BPF_F_XDP_HAS_FRAGS
	}
	if err := spec.Variables[bpf.SteerVarInterface].Set(uint32(index)); err != nil {
		return nil, fmt.Errorf("afxdp: the program's constants: %w", err)
	}
	if reads && !reveal(spec, a.mode) {
		log.Debug("afxdp: the kernel does not describe itself: datagrams that it joined are not told apart, nor is a new address of the interface known at once")
	}
	return spec, nil
}

// loadError explains why the program was not loaded.
func loadError(err error) error {
	if ve := (*ebpf.VerifierError)(nil); errors.As(err, &ve) {
		return refusedProgram(err)
	}
	if err != nil {
		return denied("load of the XDP program", err, unix.CAP_BPF, unix.CAP_NET_ADMIN)
	}
	return nil
}
