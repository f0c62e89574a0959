// Package capture records what passes through a driver.Queue in a pcapng
// file, for Wireshark and tcpdump. A queue that is not wrapped pays nothing;
// one that is pays a copy per packet, and never waits for the file.
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

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ring"
)

// Options of a capture; the zero value is fine.
type Options struct {
	Name    string // of the interface, as the file tells it; default "onload"
	SnapLen int    // bytes kept of each packet; default 65549, an IP packet and its Ethernet header
	Buffer  int    // bytes that wait for the file, per queue; default 4 MiB
}

// interval is how often the writer looks for packets: nobody wakes it.
const interval = 5 * time.Millisecond

// Capture is a running capture of any number of queues.
type Capture struct {
	opt     Options
	stop    chan struct{}
	stopped chan struct{}
	once    sync.Once

	mu     sync.Mutex
	queues []*Queue

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

// New starts a capture into w, which stays the caller's to close, after
// Close.
func New(w io.Writer, opt Options) (*Capture, error) {
	if opt.Name == "" {
		opt.Name = "onload"
	}
	if opt.SnapLen == 0 {
		opt.SnapLen = 65535 + 14
	}
	if opt.Buffer == 0 {
		opt.Buffer = 4 << 20
	}
	if opt.SnapLen < 0 || opt.Buffer < 0 {
		return nil, errors.New("capture: negative option")
	}
	ng, err := pcapgo.NewNgWriterInterface(w, pcapgo.NgInterface{
		Name: opt.Name, OS: runtime.GOOS, LinkType: layers.LinkTypeEthernet,
		SnapLength: uint32(opt.SnapLen), TimestampResolution: 9,
	}, pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{
		Hardware: runtime.GOARCH, OS: runtime.GOOS, Application: "onload",
	}})
	if err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	c := &Capture{opt: opt, w: ng, stop: make(chan struct{}), stopped: make(chan struct{})}
	go c.run()
	return c, nil
}

// Close writes what still waits, and ends the capture. Queues that it wraps
// go on without. It returns what broke the file, if anything did.
func (c *Capture) Close() error {
	c.once.Do(func() { close(c.stop) })
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
	err := c.w.WritePacketWithOptions(gopacket.CaptureInfo{
		Timestamp: time.Unix(0, r.at), CaptureLength: len(r.data), Length: r.length,
	}, r.data, pcapgo.NgPacketOptions{Flags: &pcapgo.NgEpbFlags{Direction: dir}, Queue: &q.index})
	if err != nil {
		return fmt.Errorf("capture: %w", err)
	}
	return nil
}

// Queue is a driver.Queue that is captured.
type Queue struct {
	driver.Queue
	arena   *ring.Arena
	index   uint32
	snap    int
	buf     *buffer
	off     atomic.Bool
	dropped atomic.Uint64
}

// Wrap captures q, whose frames lie in a. Use only what it returns.
func (c *Capture) Wrap(q driver.Queue, a *ring.Arena) *Queue {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := &Queue{Queue: q, arena: a, index: uint32(len(c.queues)), snap: c.opt.SnapLen, buf: newBuffer(c.opt.Buffer)}
	c.queues = append(c.queues, w)
	return w
}

// RxBatch implements driver.Queue.
func (q *Queue) RxBatch(ds []ring.Desc) int {
	n := q.Queue.RxBatch(ds)
	q.record(ds[:n], false)
	return n
}

// TxBatch implements driver.Queue. Checksums that the device completes, and
// packets that it segments, are recorded as they were handed to it.
func (q *Queue) TxBatch(ds []ring.Desc) int {
	n := q.Queue.TxBatch(ds)
	q.record(ds[:n], true)
	return n
}

func (q *Queue) record(ds []ring.Desc, out bool) {
	if len(ds) == 0 || q.off.Load() {
		return
	}
	at := time.Now().UnixNano()
	for len(ds) > 0 {
		k, bytes := ring.PacketLen(ds)
		if !q.buf.push(q.arena, ds[:k], bytes, min(bytes, q.snap), at, out) {
			q.dropped.Add(1)
		}
		ds = ds[k:]
	}
}

// Device is a driver.Device of which every queue is captured.
type Device struct {
	driver.Device
	queues []driver.Queue
}

// WrapDevice captures all queues of d.
func (c *Capture) WrapDevice(d driver.Device) *Device {
	w := &Device{Device: d}
	for _, q := range d.Queues() {
		w.queues = append(w.queues, c.Wrap(q, d.Arena()))
	}
	return w
}

// Queues implements driver.Device.
func (d *Device) Queues() []driver.Queue { return d.queues }
