package tcp

import (
	"errors"
	"fmt"
)

// ErrSnapshot is the error of a Snapshot that no connection can have.
var ErrSnapshot = errors.New("tcp: no connection is like this snapshot")

// Bounds of what a Snapshot says, which may come from another process.
const (
	maxShift        = 14 // RFC 7323 section 2.3
	maxNameLen      = 64 // of a congestion control
	maxLinger       = 1 << 30
	maxSnapshotData = maxBuf // of each queue, bytes: as large as a window can be
)

// check reports what in s cannot be. It returns nil for what Freeze makes.
func (s *Snapshot) check() error {
	for _, c := range [...]struct {
		ok   bool
		what string
	}{
		{s.Local.IsValid() && s.Remote.IsValid() && s.Local.Port() != 0 && s.Remote.Port() != 0, "addresses"},
		{s.Local.Addr().Is4() == s.Remote.Addr().Is4() && !s.Local.Addr().Is4In6() && !s.Remote.Addr().Is4In6(), "address families"},
		{s.State.movable(), "state"},
		{len(s.Send) <= maxSnapshotData && len(s.Recv) <= maxSnapshotData, "size of the data"},
		{!s.Orphan || len(s.Recv) == 0, "unread data of a closed connection"},
		{s.SendFIN == (s.State == FinWait1 || s.State == Closing || s.State == LastAck), "our FIN"},
		{s.RecvFIN == (s.State == CloseWait || s.State == Closing || s.State == LastAck), "the peer's FIN"},
		{s.State != FinWait2 || len(s.Send) == 0, "data behind our FIN"},
		{int64(s.SndNxt-s.SndUna) <= int64(len(s.Send))+oneIf(s.SendFIN), "SND.NXT"},
		{s.SndWnd <= maxBuf && s.MaxSndWnd <= maxBuf, "SND.WND"},
		{s.RcvNxt-s.RcvAcked <= maxBuf, "the last acknowledgement"},
		{s.RcvAdv-s.RcvNxt <= maxBuf || s.RcvNxt-s.RcvAdv == 1, "RCV.WND"},
		{shift(s.SndScale) && shift(s.RcvScale) && (s.SndScale < 0) == (s.RcvScale < 0), "window scales"},
		{s.TSRecentAge >= 0, "age of TS.Recent"},
		{s.SoftErr < 1<<12, "soft error"},
		{len(s.Options.Congestion) <= maxNameLen, "congestion control"},
		{s.Options.Linger >= -1 && s.Options.Linger <= maxLinger, "linger time"},
		{s.Options.RcvBuf >= 0 && s.Options.RcvBuf <= maxBuf && s.Options.SndBuf >= 0 && s.Options.SndBuf <= maxBuf, "buffer sizes"},
		{s.Options.MTUProbing <= MTUProbeOff, "search for the path's MTU"},
		{s.Hints.RTT >= 0 && s.Hints.RTTVar >= 0 && s.Hints.MinRTT >= 0, "round-trip times"},
		{s.Hints.Age >= 0 && s.Hints.DataAge >= 0 && s.Hints.Stuck >= 0, "ages"},
		{s.Hints.Timeout >= 0 && s.Hints.AckDelay >= 0, "timers"},
	} {
		if !c.ok {
			return fmt.Errorf("%w: %s", ErrSnapshot, c.what)
		}
	}
	return nil
}

func shift(n int8) bool { return n >= -1 && n <= maxShift }

func oneIf(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
