// Package capture records what passes through a driver.Queue in a pcapng
// file, for Wireshark and tcpdump: Start does so for a running engine. A queue
// that is not captured pays nothing; one that is pays a copy per packet, and
// never waits for the file.
package capture

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// Options of a capture; the zero value is fine.
type Options struct {
	Interfaces []string // names in the file; default "onload"
	SnapLen    int      // bytes kept of each packet; default 65557, an IP packet, Ethernet header and two VLAN tags
	Buffer     int      // bytes that wait for the file, per queue; default 4 MiB
}

// interval is the time between the writer's looks for packets: nobody wakes it.
const interval = 5 * time.Millisecond

// Capture is a running capture of any number of queues.
type Capture struct {
	opt     Options
	stop    chan struct{}
	stopped chan struct{}
	once    sync.Once
	untap   func() // of Start

	mu      sync.Mutex
	queues  []*Queue
	reasons []string // why packets are dropped

	// The writer's, until stopped is closed.
	w   *pcapgo.NgWriter
	err error

	written atomic.Uint64
	lost    atomic.Uint64 // after the file failed
}

// Stats of a Capture.
type Stats struct {
	Written uint64 // packets in the file
	Dropped uint64 // packets that found the buffer full, or the file broken
}

// New starts a capture into w. The caller closes w, after Close.
func New(w io.Writer, opt Options) (*Capture, error) {
	if len(opt.Interfaces) == 0 {
		opt.Interfaces = []string{"onload"}
	}
	if opt.SnapLen == 0 {
		opt.SnapLen = 65535 + 22
	}
	if opt.Buffer == 0 {
		opt.Buffer = 4 << 20
	}
	if opt.SnapLen < 0 || opt.Buffer < 0 {
		return nil, errors.New("capture: negative option")
	}
	var links []pcapgo.NgInterface
	for _, name := range opt.Interfaces {
		links = append(links, pcapgo.NgInterface{
			Name: name, OS: runtime.GOOS, LinkType: layers.LinkTypeEthernet,
			SnapLength: uint32(opt.SnapLen), TimestampResolution: 9,
		})
	}
	ng, err := pcapgo.NewNgWriterInterface(w, links[0], pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{
		Hardware: runtime.GOARCH, OS: runtime.GOOS, Application: "onload",
	}})
	if err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	for _, l := range links[1:] {
		if _, err := ng.AddInterface(l); err != nil {
			return nil, fmt.Errorf("capture: %w", err)
		}
	}
	c := &Capture{opt: opt, w: ng, stop: make(chan struct{}), stopped: make(chan struct{})}
	go c.run()
	return c, nil
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
	s := Stats{Written: c.written.Load(), Dropped: c.lost.Load()}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, q := range c.queues {
		s.Dropped += q.dropped.Load()
	}
	return s
}

func (c *Capture) run() {
	defer close(c.stopped)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			c.drain()
		case <-c.stop:
			for _, q := range c.snapshot() {
				q.off.Store(true)
			}
			c.drain()
			c.flush() // the header, if there was no packet
			return
		}
	}
}

func (c *Capture) snapshot() []*Queue {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queues[:len(c.queues):len(c.queues)]
}

// drain writes all that waits.
func (c *Capture) drain() {
	wrote := false
	for _, q := range c.snapshot() {
		for {
			r, ok := q.buf.pop()
			if !ok {
				break
			}
			wrote = true
			if c.err == nil {
				c.err = c.write(q, r)
			}
			if c.err != nil {
				c.lost.Add(1)
			} else {
				c.written.Add(1)
			}
		}
	}
	if wrote {
		c.flush()
	}
}

func (c *Capture) flush() {
	if c.err != nil {
		return
	}
	if err := c.w.Flush(); err != nil {
		c.err = fmt.Errorf("capture: %w", err)
	}
}

func (c *Capture) write(q *Queue, r record) error {
	dir := pcapgo.NgEpbFlagDirectionInbound
	if r.out {
		dir = pcapgo.NgEpbFlagDirectionOutbound
	}
	opt := pcapgo.NgPacketOptions{Flags: &pcapgo.NgEpbFlags{Direction: dir}, Queue: &q.index}
	if why := c.whyOf(r.why); why != "" {
		opt.Comments = []string{"dropped: " + why}
	}
	err := c.w.WritePacketWithOptions(gopacket.CaptureInfo{
		Timestamp: time.Unix(0, r.at), CaptureLength: len(r.data), Length: r.length, InterfaceIndex: q.link,
	}, r.data, opt)
	if err != nil {
		return fmt.Errorf("capture: %w", err)
	}
	return nil
}
