package capture

import (
	"io"
	"slices"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ring"
)

// Engine is the part of an onload.Engine that Start needs.
type Engine interface {
	Tap(driver.OpenTaps) (stop func(), err error)
}

// Start starts to record every packet that the accelerated interfaces of e send
// and receive, which tcpdump does not see. A packet has its direction, its queue
// and, as a comment, why the stack dropped it if it did. Large packets are
// recorded as they were handed to the device that cuts them, and so are checksums
// that the device completes.
//
// The caller closes the Capture and then w, and may do so while connections are
// open. Start fails where nothing is accelerated, and with EBUSY where a capture
// of e runs. It chooses opt.Interfaces.
func Start(e Engine, w io.Writer, opt Options) (*Capture, error) {
	var c *Capture
	stop, err := e.Tap(func(ds []driver.Device) (taps []driver.Tap, err error) {
		opt.Interfaces = nil
		for _, d := range ds {
			opt.Interfaces = append(opt.Interfaces, d.Name())
		}
		if c, err = New(w, opt); err != nil {
			return nil, err
		}
		for i, d := range ds {
			taps = append(taps, c.Tap(d, i))
		}
		return taps, nil
	})
	if err != nil {
		if c != nil {
			_ = c.Close() // an empty file; the tap's error counts
		}
		return nil, err
	}
	c.untap = stop
	return c, nil
}

// Tap captures the queues of a device that a stack runs on already. The stack
// reports the packets that it drops, and the file has the reason as a comment.
type Tap struct {
	c      *Capture
	queues []*Queue
}

var _ driver.Tap = (*Tap)(nil)

// Tap returns a tap for d, interface link of the file (an index of
// Options.Interfaces).
func (c *Capture) Tap(d driver.Device, link int) *Tap {
	t := &Tap{c: c}
	for i, q := range d.Queues() {
		t.queues = append(t.queues, c.wrap(q, d.Arena(), link, i, true))
	}
	return t
}

// Queues implements driver.Tap.
func (t *Tap) Queues() []driver.Queue {
	var l []driver.Queue
	for _, q := range t.queues {
		l = append(l, q)
	}
	return l
}

// Dropped implements driver.Tap.
func (t *Tap) Dropped(queue int, f ring.Frame, why string) {
	t.queues[queue].drop(f, t.c.reason(why))
}

// Done implements driver.Tap.
func (t *Tap) Done(queue int) { t.queues[queue].done() }

// reason numbers the reasons, from 1.
func (c *Capture) reason(why string) uint16 {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.reasons, why)
	if i < 0 {
		i = len(c.reasons)
		c.reasons = append(c.reasons, why)
	}
	return uint16(i + 1)
}

// whyOf is the reason with that number; empty for 0.
func (c *Capture) whyOf(n uint16) string {
	if n == 0 {
		return ""
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reasons[n-1]
}
