package afxdp

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/afxdp/bpf"
	"github.com/onload-go/onload/driver/afxdp/undo"
	"github.com/onload-go/onload/ring"
)

// Device is an interface with an AF_XDP socket on each of its queues, and the
// program that steers to them. It implements driver.Device.
type Device struct {
	name    string
	index   int
	receive int // queues of the interface
	inNS    func(func() error) error
	arena   *ring.Arena
	shared  bool // the arena is another's
	queues  queues
	caps    driver.Caps
	growth  growth

	// An object of the link package detaches when it is collected. This reference,
	// and each Queue's to its Device, keep it.
	link link.Link
	objs bpf.SteerObjects

	log   *zap.Logger
	watch watch       // of queueing disciplines
	qdisc int         // packet socket through the queueing discipline, -1: none
	ruled atomic.Bool // the queueing discipline is obeyed

	napi    *undo.Hold // nil: nothing was set
	returns returns
	copies  string // why, where the sockets are not in zero-copy mode

	mu     sync.Mutex // steering and Close
	closed bool
	bare   bool // the arena is closed, too
	ports  map[bpf.SteerPortKey]int32
	flows  map[bpf.SteerFlowKey]int
}

var (
	_ driver.Device   = (*Device)(nil)
	_ driver.Returner = (*Device)(nil)
	_ driver.Grower   = (*Device)(nil)
	_ driver.Retirer  = (*Device)(nil)
)

// Open attaches the program and opens the sockets. Until AddPort every packet
// is still the kernel's.
func Open(c Config) (*Device, error) {
	if err := c.defaults(); err != nil {
		return nil, err
	}
	var d *Device
	err := c.InNS(func() (err error) {
		d, err = open(&c)
		return err
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

func open(c *Config) (_ *Device, err error) {
	l, err := freeLink(c.Context, c.Interface)
	if err != nil {
		return nil, err
	}
	if err := errEthernet(l); err != nil {
		return nil, err
	}
	if err := c.queues(l); err != nil {
		return nil, err
	}
	d := &Device{
		name: l.name, index: l.index, receive: l.rx, inNS: c.InNS, log: c.Log, qdisc: -1,
		arena: c.Arena, shared: c.Arena != nil,
		ports: map[bpf.SteerPortKey]int32{}, flows: map[bpf.SteerFlowKey]int{},
	}
	d.returns.idle.L = &d.returns.mu
	defer func() {
		if err != nil {
			_ = d.Close()
		}
	}()
	// The kernel counts the UMEM of a process without CAP_IPC_LOCK against the
	// limit. A refusal shows below.
	_ = rlimit.RemoveMemlock()
	mode, err := d.attach(c, l)
	if err != nil {
		return nil, err
	}
	bound, err := d.bind(c, l, mode == ModeNative)
	if err != nil {
		return nil, err
	}
	for _, q := range d.queues.all() {
		if err := d.receiveBy(q); err != nil {
			return nil, err
		}
	}
	if c.fewer != "" {
		c.Log.Warn("afxdp: less packet memory than the queues want", zap.String("interface", l.name),
			zap.Int("frames", c.Frames), zap.String("because", c.fewer))
	}
	d.describe(c, l, mode, bound)
	d.offload(c, l)
	d.followQdisc(c, l)
	d.setNAPI(c, l)
	d.watchQueues(c, l, bound)
	c.Log.Info("afxdp: opened",
		zap.String("interface", l.name), zap.String("driver", l.driver), zap.Ints("queues", c.Queues),
		zap.Stringer("mode", mode), zap.Stringer("socket", bound), zap.String("copies", d.caps.CopyReason), zap.Int("mtu", l.mtu), zap.Int("tso", d.caps.TSO),
		zap.Int("frames", c.Frames), zap.Int("frameSize", d.arena.FrameSize()), zap.Bool("hugepages", d.arena.Huge()))
	return d, nil
}

// errEthernet returns the reason why the interface cannot be taken, or nil. Loopback
// cannot either: packets there come from this host's sockets, which only the kernel
// can answer.
func errEthernet(l *linkInfo) error {
	if !l.ethernet {
		return fmt.Errorf("afxdp: %s is no Ethernet link: %w", l.name, errors.ErrUnsupported)
	}
	return nil
}

// receiveBy has the program redirect to a queue's socket.
func (d *Device) receiveBy(q *Queue) error {
	if err := d.objs.Xsks.Put(uint32(q.id), uint32(q.fd)); err != nil {
		return denied("XSKMAP", err, unix.CAP_NET_ADMIN, unix.CAP_BPF)
	}
	return nil
}

// freeLink looks the interface up, and waits for the end of a program that nobody
// keeps attached any more. The kernel detaches the program of a killed process some
// time after the process seems to be gone.
func freeLink(ctx context.Context, name string) (*linkInfo, error) {
	for start := time.Now(); ; time.Sleep(busyStep) {
		l, err := lookupLink(name)
		if err != nil {
			return nil, fmt.Errorf("afxdp: %w", err)
		}
		if l.prog == 0 {
			return l, nil
		}
		if e := foreignProgram(l); time.Since(start) >= e.patience() || ctx.Err() != nil {
			return nil, e
		}
	}
}

// describe fills in what the device can do.
func (d *Device) describe(c *Config, l *linkInfo, mode Mode, m bindMode) {
	d.caps = driver.Caps{
		EdgesFree:  true,
		Driver:     l.driver,
		Mode:       mode.String(),
		ZeroCopy:   d.queues.first().zc,
		CopyReason: d.copies,

		FramesReason: c.fewer,

		Virtual:   l.virtual(),
		MTU:       l.mtu,
		MaxFrags:  maxFrags(l, m),
		RxMetaLen: rxHeadroom,
		LargeRx:   mode == ModeGeneric,
		TxCsum:    d.queues.first().txMeta > 0,
		TxRoom:    d.queues.first().txMeta,
		TxRing:    c.TxRing,
		RxRing:    c.RxRing,
		RSSKey:    l.rssKey,
		RSSTable:  l.rssTable,
	}
	for _, q := range d.queues.all() {
		d.describeQueue(q)
	}
}

// describeQueue says what a queue can do.
func (d *Device) describeQueue(q *Queue) {
	q.caps = &d.caps
	if d.caps.LargeRx {
		q.gsoLen = d.caps.MTU + maxL2
	}
	switch {
	case q.txSize > 0 && d.caps.TSO > 0:
		// A queue that came later: the lane is the first one's, and with several transmit
		// queues it would reorder a flow (errNoLane).
		frameByFrame := d.caps
		frameByFrame.TSO, frameByFrame.TSOFrags = 0, 0
		q.caps = &frameByFrame
	case q.txSize == 0:
		rxOnly := d.caps
		rxOnly.TxRing = 0
		q.caps = &rxOnly
		d.log.Warn("afxdp: queue receives only: the interface has fewer transmit queues",
			zap.String("interface", d.name), zap.Int("queue", q.id))
	}
}

// offload has the device segment packets if it can.
func (d *Device) offload(c *Config, l *linkInfo) {
	if c.Offloads != OffloadsAuto {
		return
	}
	var n *lane
	err := l.errNoLane()
	if err == nil {
		n, err = openLane(l, sndbuf)
	}
	switch {
	case err == nil:
		d.queues.first().lane = n
		d.caps.TSO, d.caps.TSOFrags = l.segmentSize(), laneFrags
	case l.virtual():
		c.Log.Info("afxdp: no segmentation offload: packets are sent frame by frame",
			zap.String("interface", l.name), zap.Error(err))
	}
}

// Name implements driver.Device.
func (d *Device) Name() string { return d.name }

// Index is the number of the interface.
func (d *Device) Index() int { return d.index }

// Queues implements driver.Device.
func (d *Device) Queues() []driver.Queue {
	return driverQueues(d.queues.all())
}

// Arena implements driver.Device: the UMEM.
func (d *Device) Arena() *ring.Arena { return d.arena }

// Caps implements driver.Device.
func (d *Device) Caps() *driver.Caps { return &d.caps }

// Close implements driver.Device: the kernel has every packet again. The arena goes
// too, unless it belongs to another device, so nobody may use frames or queues any
// more. RxPending, Stats and Err stay safe.
func (d *Device) Close() error {
	err := d.shut()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.arena == nil || d.shared || d.bare {
		return err
	}
	d.bare = true
	return errors.Join(err, d.arena.Close())
}

// shut closes all but the arena.
func (d *Device) shut() error {
	// Before d.mu is taken: a Grow that is under way may wait for it.
	grown := d.growth.close()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	d.returns.close()
	// NAPI comes first: drivers may reset the NIC when the program goes.
	errs := []error{grown, d.watch.close(), d.napi.Close()}
	if d.link != nil {
		errs = append(errs, d.link.Close())
	}
	errs = append(errs, d.closeQueues())
	if d.qdisc >= 0 {
		errs = append(errs, unix.Close(d.qdisc))
	}
	if d.link != nil {
		errs = append(errs, d.objs.Close())
	}
	return errors.Join(errs...)
}

// closeQueues closes the queues. They stay listed: their counters outlive them.
func (d *Device) closeQueues() error {
	var errs []error
	for _, q := range d.queues.all() {
		q.fail(errClosed)
		errs = append(errs, q.closeSocket())
	}
	return errors.Join(errs...)
}

var errClosed = fmt.Errorf("afxdp: device closed: %w", unix.EBADF)
