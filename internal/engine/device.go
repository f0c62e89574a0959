package engine

import (
	"strconv"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/afxdp"
	"github.com/onload-go/onload/internal/control"
)

// openDevice chooses the driver of a link and opens it: the one place that
// knows drivers of real links, and turns Config's words into theirs.
func (e *Engine) openDevice(l control.Link, mode Mode) (driver.Device, error) {
	c := &e.cfg
	return afxdp.Open(afxdp.Config{
		Interface: strconv.Itoa(l.Index), // a name may be the number of another one
		Queues:    c.Queues,
		Mode:      [...]afxdp.Mode{ModeAuto: afxdp.ModeAuto, ModeNative: afxdp.ModeNative, ModeGeneric: afxdp.ModeGeneric}[mode],
		ZeroCopy: [...]afxdp.ZeroCopy{ZeroCopyAuto: afxdp.ZeroCopyAuto, ZeroCopyRequire: afxdp.ZeroCopyRequire,
			ZeroCopyOff: afxdp.ZeroCopyOff}[c.ZeroCopy],
		Frames:    c.Frames,
		FrameSize: c.FrameSize,
		RxRing:    c.RingSize,
		TxRing:    c.RingSize,
		BusyPoll:  c.BusyPoll,
		NAPI:      [...]afxdp.NAPI{NAPIKeep: afxdp.NAPIKeep, NAPIDefer: afxdp.NAPIDefer, NAPIThread: afxdp.NAPIThread}[c.NAPI],
		Offloads: [...]afxdp.Offloads{OffloadsAuto: afxdp.OffloadsAuto, OffloadsOff: afxdp.OffloadsOff,
			OffloadsChecksum: afxdp.OffloadsChecksum}[c.Offloads],
		InNS: e.ns.Do,
		Log:  e.log,
	})
}
