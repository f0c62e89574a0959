package afxdp

import (
	"context"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"go.uber.org/zap"
)

// Shared is an interface whose packets go to links of processes instead of to sockets
// on its queues (internal/broker/nicshare). Its owner loads the steering program.
type Shared struct {
	Index, MTU   int
	Name, Driver string
	Virtual      bool // packets of the peer's kernel come without checksums, and joined
	ProgramMode  Mode // ModeAuto where there is no program

	l *linkInfo
}

// LookupShared asks about the interface with that name. It runs inside the
// interface's namespace.
func LookupShared(name string) (*Shared, error) {
	l, err := lookupLink(name)
	if err != nil {
		return nil, fmt.Errorf("afxdp: %w", err)
	}
	s := &Shared{Index: l.index, MTU: l.mtu, Name: l.name, Driver: l.driver, Virtual: l.virtual(), l: l}
	switch l.progMode {
	case "native":
		s.ProgramMode = ModeNative
	case "generic":
		s.ProgramMode = ModeGeneric
	}
	return s, errEthernet(l)
}

// Runs reports whether the interface with that index in the calling thread's namespace
// runs the XDP program with that ID.
func Runs(index int, program uint32) bool {
	l, err := lookupLink(fmt.Sprint(index))
	return err == nil && l.index == index && l.prog == program
}

// AwaitFree waits for the end of a program that nobody keeps attached any more, until
// ctx ends. The error is a *ProgramError if somebody does.
func (s *Shared) AwaitFree(ctx context.Context) error {
	l, err := freeLink(ctx, s.Name)
	if err == nil {
		s.l, s.ProgramMode = l, ModeAuto
	}
	return err
}

// Attach has load make the program of spec, and put attach it, in the best way that
// works, as Open does. Mode is ModeAuto, or the only one to try.
func (s *Shared) Attach(mode Mode, log *zap.Logger, load func(spec *ebpf.CollectionSpec) (*ebpf.Program, error),
	put func(*ebpf.Program, link.XDPAttachFlags) error) (Mode, error) {
	c := Config{Mode: mode, Queues: make([]int, s.l.rx), Log: log} // all queues are taken
	a, err := attachBest(&c, s.l, way{
		load: func(a attachment, reads bool) (*ebpf.Program, error) {
			spec, err := steerSpec(s.Index, a, reads, log)
			if err != nil {
				return nil, err
			}
			p, err := load(spec)
			return p, loadError(err)
		},
		put: put,
	})
	return a.mode, err
}
