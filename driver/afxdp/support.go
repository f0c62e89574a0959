package afxdp

// Support is what the driver of an interface says of XDP.
type Support struct {
	Known       bool // the kernel tells (Linux 6.3)
	Native      bool // the XDP program runs in the driver
	ZeroCopy    bool // and packets need not be copied
	MultiBuffer bool // and may lie in several buffers, so that the MTU is free

	Driver       string
	Kind         string // of a virtual link: "veth", "bridge"; empty for hardware
	Queues, Most int    // receive queues in use, and those that it may have
	RSS          []uint32
}

// SupportOf asks the kernel about an interface.
func SupportOf(name string) (Support, error) {
	l, err := lookupLink(name)
	if err != nil {
		return Support{}, err
	}
	const runs = actBasic | actRedirect
	return Support{
		Known: l.known, Native: l.features&runs == runs, ZeroCopy: l.features&actZeroCopy != 0, MultiBuffer: l.features&actSG != 0,
		Driver: l.driver, Kind: l.kind, Queues: l.rx, Most: l.most, RSS: l.rssTable,
	}, nil
}

// ProgramOn describes the XDP program of somebody else that an interface has; nil: it has
// none.
func ProgramOn(name string) (*ProgramError, error) {
	l, err := lookupLink(name)
	if err != nil || l.prog == 0 {
		return nil, err
	}
	return foreignProgram(l), nil
}

// Remedy says how to free the interface of the program.
func (e *ProgramError) Remedy() string { return e.remedy() }
