package driver

import "net/netip"

// Steered is an entry of a device's steering. Remote is the zero AddrPort of a port; the
// address of Local is unspecified for all of its family.
type Steered struct {
	Proto         uint8
	Local, Remote netip.AddrPort
	Owner         string // "stack", "kernel", or "link N" of a process that has a broker's link
}

// Decided is how often the steering has decided in one way, over all packets.
type Decided struct {
	Name, Help string
	Packets    uint64
}

// Lister is a Device that tells what it steers. It asks the kernel by system calls.
type Lister interface {
	// EachSteered calls f with each entry until that returns false.
	EachSteered(f func(Steered) bool) error
	Decisions() ([]Decided, error)
}
