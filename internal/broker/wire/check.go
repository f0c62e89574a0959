package wire

import "math"

// Bounds of a Grant.
const (
	MinRing = 16
	MaxRing = 1 << 16
)

func (m *Hello) check() error { return m.Program.check() }

func (m *Welcome) check() error {
	if len(m.Interfaces) > MaxInterfaces {
		return malformed("%d interfaces", len(m.Interfaces))
	}
	for _, i := range m.Interfaces {
		if err := checkIndex(i.Index); err != nil {
			return err
		}
		if err := i.Name.check(); err != nil {
			return err
		}
	}
	return nil
}

func (*OK) check() error { return nil }

func (m *Refusal) check() error {
	const maxErrno = 4095 // MAX_ERRNO of linux/err.h
	if m.Errno == 0 || m.Errno > maxErrno {
		return malformed("errno %d", m.Errno)
	}
	return m.Why.check()
}

func (m *Grant) check() error {
	if m.FrameSize != 2048 && m.FrameSize != 4096 {
		return malformed("frames of %d bytes", m.FrameSize)
	}
	for _, r := range []uint32{m.RxRing, m.TxRing} {
		if r < MinRing || r > MaxRing || r&(r-1) != 0 {
			return malformed("ring of %d entries", r)
		}
	}
	if err := checkFlags(m.Segments); err != nil {
		return err
	}
	return checkIndex(m.Index)
}

func (m *Granted) check() error {
	if m.MTU == 0 || m.MTU > math.MaxUint16 || m.SegmentMax > 1<<20 || m.TxMeta > 128 {
		return malformed("MTU %d, segments of %d, metadata of %d", m.MTU, m.SegmentMax, m.TxMeta)
	}
	return checkFlags(m.Segments, m.LargeRx)
}

func (m *Claim) check() error   { return m.Port.check() }
func (m *Release) check() error { return m.Port.check() }
func (m *Share) check() error   { return m.Port.check() }

func (m *Except) check() error {
	if err := m.Local.check(); err != nil {
		return err
	}
	if m.Local.Proto != m.Remote.Proto || m.Local.Addr.Family == 0 || m.Local.Addr.Family != m.Remote.Addr.Family {
		return malformed("the ends of a flow do not fit")
	}
	return m.Remote.check()
}

func (m *Unexcept) check() error { return (*Except)(m).check() }

func (m *Neighbour) check() error {
	if m.Addr.Family == 0 {
		return malformed("a neighbour without address")
	}
	if err := m.Addr.check(); err != nil {
		return err
	}
	return checkIndex(m.Index)
}

func (*Stats) check() error    { return nil }
func (*Counters) check() error { return nil }

func (m *Resume) check() error { return checkIndex(m.Index) }
func (*Resumed) check() error  { return nil }
func (*Leave) check() error    { return nil }
func (*Flows) check() error    { return nil }

func checkIndex(i uint32) error {
	if i == 0 || i > math.MaxInt32 {
		return malformed("interface %d", i)
	}
	return nil
}

func checkFlags(flags ...uint8) error {
	for _, f := range flags {
		if f > 1 {
			return malformed("a flag is %d", f)
		}
	}
	return nil
}
