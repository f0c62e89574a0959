package engine

import (
	"cmp"
	"context"
	"errors"
	"math"
	"strconv"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/afxdp"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/internal/memory"
	"github.com/onload-go/onload/ring"
)

// openDevice chooses the driver of a link and opens it. It is the one place that
// knows drivers of the kernel's links, and that turns Config's words into theirs. The
// device is one of sharers that are to share an arena; arena is that of the first
// one, nil for the first itself. What others have is waited for until ctx ends.
func (e *Engine) openDevice(ctx context.Context, l control.Link, mode Mode, arena *ring.Arena, sharers int) (driver.Device, error) {
	shared, refused := e.openShared(l, arena, sharers)
	if shared != nil {
		return shared, nil
	}
	d, err := e.openOwn(ctx, l, mode, arena, sharers)
	if err != nil {
		return nil, errors.Join(err, refused)
	}
	return d, nil
}

// openOwn opens the device of a link for this process alone.
func (e *Engine) openOwn(ctx context.Context, l control.Link, mode Mode, arena *ring.Arena, sharers int) (driver.Device, error) {
	c := &e.cfg
	free, of := freeMemory(c, sharers)
	d, err := afxdp.Open(afxdp.Config{
		Context:   ctx,
		Interface: strconv.Itoa(l.Index), // a name may be the number of another link
		Queues:    c.Queues,
		Mode:      [...]afxdp.Mode{ModeAuto: afxdp.ModeAuto, ModeNative: afxdp.ModeNative, ModeGeneric: afxdp.ModeGeneric}[mode],
		ZeroCopy: [...]afxdp.ZeroCopy{ZeroCopyAuto: afxdp.ZeroCopyAuto, ZeroCopyRequire: afxdp.ZeroCopyRequire,
			ZeroCopyOff: afxdp.ZeroCopyOff}[c.ZeroCopy],
		Frames:    c.Frames,
		Arena:     arena,
		Sharers:   sharers,
		FrameSize: c.FrameSize,
		Free:      free,
		FreeOf:    of,
		RxRing:    c.RingSize,
		TxRing:    c.RingSize,
		BusyPoll:  c.BusyPoll,
		NAPI:      [...]afxdp.NAPI{NAPIKeep: afxdp.NAPIKeep, NAPIDefer: afxdp.NAPIDefer, NAPIThread: afxdp.NAPIThread}[c.NAPI],
		Offloads: [...]afxdp.Offloads{OffloadsAuto: afxdp.OffloadsAuto, OffloadsOff: afxdp.OffloadsOff,
			OffloadsChecksum: afxdp.OffloadsChecksum}[c.Offloads],
		Changed: e.lookAgain,
		InNS:    e.ns.Do,
		Log:     e.log,
	})
	if err != nil {
		return nil, err // not an interface that holds nil
	}
	return d, nil
}

// groupPriority marks the twins of sockets that hear multicast groups, for the
// steering.
func groupPriority() int { return afxdp.GroupPriority() }

// freeMemory is what an arena may take, in bytes, and what leaves no more; 0 is no
// limit. It is asked for each arena, since the one before has taken some. An arena
// that fits into the reserved huge pages takes nothing else.
func freeMemory(c *Config, sharers int) (bytes int64, of string) {
	f := memory.Read()
	if want := int64(cmp.Or(c.Frames*sharers, mostFrames)) * int64(cmp.Or(c.FrameSize, 4096)); f.Bytes == math.MaxInt64 || want <= f.Huge {
		return 0, ""
	}
	return max(f.Bytes, 1), f.Of
}

// mostFrames is no less than a device takes by itself.
const mostFrames = 1 << 16
