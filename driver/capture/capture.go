// Package capture records what passes through a driver.Queue in a pcapng
// file, for Wireshark and tcpdump: Start does so for a running engine. A queue
// that is not captured pays nothing; one that is pays a copy per packet, and
// never waits for the file. `onload capture` does the same for another process.
package capture

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/record"
	"github.com/onload-go/onload/internal/record/pcapng"
)

// Options of a capture; the zero value is fine.
type Options struct {
	SnapLen int // bytes kept of each packet; default 65557, an IP packet, Ethernet header and two VLAN tags
	Buffer  int // bytes that wait for the file, of each stack; default 4 MiB
}

// interval is the time between the writer's looks for packets: nobody wakes it.
const interval = 5 * time.Millisecond

// late is how long a packet of one stack may be recorded behind a later one of another,
// in ns.
const late = int64(100 * time.Millisecond)

// Capture is a running capture of any number of queues.
type Capture struct {
	opt     Options
	stop    chan struct{}
	stopped chan struct{}
	once    sync.Once
	untap   func() // of Start

	mu   sync.Mutex
	taps []*record.Tap
	in   record.Reader

	// The writer's, until stopped is closed.
	w    io.Writer
	file *pcapng.File // nil: it is not begun
	err  error

	written atomic.Uint64
	lost    atomic.Uint64 // after the file failed
}

// Stats of a Capture.
type Stats struct {
	Written uint64 // packets in the file
	Dropped uint64 // packets that found the buffer full, or the file broken
}

// Engine is the part of an onload.Engine that Start needs.
type Engine interface {
	Tap(driver.OpenTap) (stop func(), err error)
}

// Start starts to record every packet that the accelerated interfaces of e send
// and receive, which tcpdump does not see. A packet has its direction, its queue
// and, as a comment, why the stack dropped it if it did. Large packets are
// recorded as they were handed to the device that cuts them, and so are checksums
// that the device completes.
//
// The caller closes the Capture and then w, and may do so while connections are
// open. Several captures may run at once. Start fails where nothing is accelerated.
func Start(e Engine, w io.Writer, opt Options) (*Capture, error) {
	c, err := open(w, opt)
	if err != nil {
		return nil, err
	}
	var names []string
	stop, err := e.Tap(func(interfaces []string) (driver.Tap, error) {
		if names == nil {
			names = interfaces
		}
		return c.tap(interfaces)
	})
	if err != nil {
		return nil, err
	}
	c.untap = stop
	c.file, c.err = pcapng.New(w, opt.SnapLen, names)
	go c.run()
	return c, nil
}

// open is a Capture that does not run yet.
func open(w io.Writer, opt Options) (*Capture, error) {
	if opt.Buffer == 0 {
		opt.Buffer = 4 << 20
	}
	if opt.SnapLen < 0 || opt.Buffer < 0 {
		return nil, errors.New("capture: negative option")
	}
	return &Capture{opt: opt, w: w, stop: make(chan struct{}), stopped: make(chan struct{})}, nil
}

// tap makes the recorder of another stack.
func (c *Capture) tap(interfaces []string) (*record.Tap, error) {
	mem := make([]byte, record.Size(c.opt.Buffer)) // the allocator aligns it
	t, err := record.NewTap(mem, interfaces, &record.Options{SnapLen: c.opt.SnapLen})
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.taps = append(c.taps, t)
	c.in.Add(mem, "")
	return t, nil
}

// Close writes what still waits, and ends the capture. Captured queues go on
// without it. It returns the error that broke the file, if there was one.
func (c *Capture) Close() error {
	c.once.Do(func() {
		if c.untap != nil {
			c.untap()
		}
		close(c.stop)
	})
	<-c.stopped
	return c.err
}

// Stats returns the counters.
func (c *Capture) Stats() Stats {
	return Stats{Written: c.written.Load(), Dropped: c.lost.Load() + c.in.Lost()}
}

func (c *Capture) run() {
	defer close(c.stopped)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	if c.file != nil {
		c.flush() // whoever reads live learns the interfaces
	}
	for {
		select {
		case <-tick.C:
			c.drain(time.Now().UnixNano() - late)
		case <-c.stop:
			c.mu.Lock()
			for _, t := range c.taps {
				t.End()
			}
			c.mu.Unlock()
			c.drain(record.All)
			c.begin() // if there was no packet
			c.flush()
			return
		}
	}
}

// drain writes what is older than horizon.
func (c *Capture) drain(horizon int64) {
	wrote := false
	for p, ok := c.in.Next(horizon); ok; p, ok = c.in.Next(horizon) {
		wrote = true
		if c.begin(); c.err == nil {
			c.err = c.file.Write(&p)
		}
		if c.err != nil {
			c.lost.Add(1)
		} else {
			c.written.Add(1)
		}
	}
	if wrote {
		c.flush()
	}
}

// begin begins the file, unless it is begun.
func (c *Capture) begin() {
	if c.file == nil && c.err == nil {
		c.file, c.err = pcapng.New(c.w, c.opt.SnapLen, c.in.Names())
	}
}

func (c *Capture) flush() {
	if c.err == nil {
		c.err = c.file.Flush()
	}
}
