package afxdp

// Support is what the driver of an interface says of XDP.
type Support struct {
	Known    bool // the kernel tells (Linux 6.3)
	Native   bool // the XDP program runs in the driver
	ZeroCopy bool // and packets need not be copied
}

// SupportOf asks the kernel about an interface.
func SupportOf(name string) (Support, error) {
	l, err := lookupLink(name)
	if err != nil {
		return Support{}, err
	}
	const runs = actBasic | actRedirect
	return Support{Known: l.known, Native: l.features&runs == runs, ZeroCopy: l.features&actZeroCopy != 0}, nil
}
