package afxdp

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/ring"
)

// attempt is one way to bind, with the size of frames.
type attempt struct {
	bindMode
	frameSize int
}

// String is the attempt in words.
func (a attempt) String() string {
	return fmt.Sprintf("%v, frames of %d bytes", a.bindMode, a.frameSize)
}

// attempts lists the ways to try, best first. A driver wants zero-copy frames of
// one size: Amazon's ENA 4,096 bytes, Google's gve 2,048. If the user asked for no
// size, the other one is tried before zero-copy is given up.
func attempts(c *Config, l *linkInfo, native bool) (as []attempt) {
	other := 2048
	if c.FrameSize == other {
		other = 4096
	}
	modes := bindModes(c, l, native)
	for _, m := range modes {
		if m.zeroCopy {
			as = append(as, attempt{m, c.FrameSize})
		}
	}
	if c.anySize {
		o := *c
		o.FrameSize = other
		for _, m := range bindModes(&o, l, native) {
			if m.zeroCopy {
				as = append(as, attempt{m, other})
			}
		}
	}
	for _, m := range modes {
		if !m.zeroCopy {
			as = append(as, attempt{m, c.FrameSize})
		}
	}
	return as
}

// bind opens a socket on every queue, all in the best way that works.
func (d *Device) bind(c *Config, l *linkInfo, native bool) (bindMode, error) {
	var errs []error
	for _, a := range attempts(c, l, native) {
		err := d.bindFewer(c, l, a)
		if err == nil {
			if !d.queues.first().zc {
				d.copies = copyReason(c, l, native, errs)
				if l.known && len(errs) > 0 {
					c.Log.Warn("afxdp: packets are copied", zap.String("interface", l.name), zap.String("because", d.copies))
				}
			}
			return a.bindMode, nil
		}
		errs = append(errs, fmt.Errorf("%w (frames of %d bytes)", err, a.frameSize))
		// Memory that cannot be mapped for the NIC can still be copied from.
		noMemory := errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM)
		var busy *QueueError
		if errors.As(err, &busy) || errors.Is(err, unix.EPERM) || noMemory && !a.zeroCopy {
			return a.bindMode, err
		}
		c.Log.Debug("afxdp: bind refused", zap.Stringer("as", a), zap.Error(err))
	}
	err := errors.Join(errs...)
	if c.ZeroCopy == ZeroCopyRequire {
		err = &ZeroCopyError{Interface: l.name, Why: copyReason(c, l, native, errs), Err: err}
	}
	return bindMode{}, err
}

// bindFewer binds, and halves the number of frames each time that the limit on
// locked memory refuses them, unless the user asked for a number. All processes of
// a user share the limit, so only trying shows how much is left.
func (d *Device) bindFewer(c *Config, l *linkInfo, a attempt) error {
	for {
		if err := d.makeArena(c.Frames, a.frameSize); err != nil {
			return err
		}
		err := d.bindAll(c, l, a.bindMode)
		var locked *lockError
		if !errors.As(err, &locked) || !c.anyFrames || c.Frames/2 < leastFrames*c.allQueues() {
			return err
		}
		c.Frames /= 2
		c.fewer = "RLIMIT_MEMLOCK is " + locked.limit() + " without CAP_IPC_LOCK"
	}
}

// makeArena makes the arena, unless there is one of that size.
func (d *Device) makeArena(frames, size int) error {
	if d.arena != nil {
		if d.arena.FrameSize() == size && d.arena.Frames() == frames {
			return nil
		}
		if err := d.arena.Close(); err != nil {
			return fmt.Errorf("afxdp: %w", err)
		}
		d.arena = nil
	}
	a, err := ring.NewArena(frames, size)
	if err != nil {
		return fmt.Errorf("afxdp: %w", err)
	}
	d.arena = a
	return nil
}

// copyReason returns why the sockets copy. The kernel says little of it: refused
// has the error of each attempt.
func copyReason(c *Config, l *linkInfo, native bool, refused []error) string {
	switch {
	case c.ZeroCopy == ZeroCopyOff:
		return "zero-copy is turned off"
	case l.virtual():
		return "a " + l.driver + " link has no zero-copy"
	case !native:
		return "the XDP program runs in generic mode"
	case l.known && l.features&actZeroCopy == 0:
		return "driver " + l.driver + " has no zero-copy"
	}
	var said []string
	hint := ""
	for _, err := range refused {
		if s := strings.TrimPrefix(err.Error(), "afxdp: "); s != "" {
			said = append(said, s)
		}
		switch {
		case errors.Is(err, unix.EOPNOTSUPP):
			hint = "the driver may want a smaller MTU, fewer queues in use (ethtool -L) or its offloads off"
		case errors.Is(err, unix.EINVAL):
			hint = "the driver may want another MTU or ring size"
		case errors.Is(err, unix.ENOMEM):
			hint = "the memory could not be mapped for the NIC"
		}
	}
	s := "driver " + l.driver + " refused zero-copy: " + strings.Join(said, "; ")
	if hint != "" {
		s += ": " + hint
	}
	if !c.anySize {
		s += "; frames of another size were not tried, as one is set"
	}
	return s
}

func (d *Device) bindAll(c *Config, l *linkInfo, m bindMode) error {
	owner := make([]uint16, d.arena.Frames())
	var bound []*Queue
	for _, id := range c.Queues {
		q, err := d.bindQueue(c.Context, c, l, m, id, owner, bound)
		if err != nil {
			d.closeQueues()
			d.queues.set(nil)
			return err
		}
		bound = append(bound, q)
		d.queues.set(bound)
	}
	return nil
}

// bindQueue opens the socket of the queue with that number, beside others of the
// same UMEM. owner is theirs too.
func (d *Device) bindQueue(ctx context.Context, c *Config, l *linkInfo, m bindMode, id int, owner []uint16, others []*Queue) (*Queue, error) {
	q := &Queue{
		dev: d, id: id, tag: uint16(len(others) + 1), owner: owner, arena: d.arena, fd: -1, txFD: -1, ep: -1,
		maxFrags: maxFrags(l, m),
	}
	var first *Queue
	if len(others) > 0 {
		first = others[0]
		q.txMeta = first.txMeta
	}
	if err := openSocket(ctx, q, c, l, m, first); err != nil {
		return nil, err
	}
	q.lend(c)
	cleanUp(q)
	return q, nil
}

// lend decides how many frames the kernel gets for receiving.
func (q *Queue) lend(c *Config) {
	most := c.share(q.arena)
	q.most.Store(int32(most))
	if q.target = most; !q.zc {
		q.target = min(most, fewFrames)
	}
}

// cleanUp has the address space of q's rings freed with it.
func cleanUp(q *Queue) { runtime.AddCleanup(q, unmap, q.mems()) }
