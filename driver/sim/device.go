package sim

import (
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/steer"
	"github.com/onload-go/onload/ring"
)

// Device is one end of the link; it implements driver.Device and driver.Linked.
type Device struct {
	*steer.Table
	cfg    Config
	caps   driver.Caps
	arena  *ring.Arena
	queues []*Queue
	peer   *Device
	out    *direction // of what we send
	down   *atomic.Bool
	onLink atomic.Pointer[func()]
	closed atomic.Bool
	rss    *driver.Toeplitz
	tap    func(Dir, []byte)

	clock       func() int64
	virtualTime bool
}

var (
	_ driver.Device = (*Device)(nil)
	_ driver.Linked = (*Device)(nil)
)

// New makes a link and its two ends.
func New(a, b Config, link LinkConfig) (*Device, *Device, error) {
	if err := errors.Join(a.fill("sim0"), b.fill("sim1"), link.fill()); err != nil {
		return nil, nil, err
	}
	da, err := newDevice(a)
	if err != nil {
		return nil, nil, err
	}
	db, err := newDevice(b)
	if err != nil {
		return nil, nil, errors.Join(err, da.Close())
	}
	join(&link, da, db)
	return da, db, nil
}

// NewLoop makes a link with one end, which receives what it sends.
func NewLoop(c Config, link LinkConfig) (*Device, error) {
	if err := errors.Join(c.fill("sim0"), link.fill()); err != nil {
		return nil, err
	}
	d, err := newDevice(c)
	if err == nil {
		join(&link, d, d)
	}
	return d, err
}

// join connects the ends of a link, which may be the same.
func join(link *LinkConfig, da, db *Device) {
	virtual := link.Clock != nil
	if !virtual {
		base := time.Now()
		link.Clock = func() int64 { return int64(time.Since(base)) + 1 }
	}
	ends := []*Device{da, db}
	down := new(atomic.Bool)
	da.out, da.peer = newDirection(AtoB, link.AtoB, link, down), db
	if da == db {
		ends = ends[:1]
	} else {
		db.out, db.peer = newDirection(BtoA, link.BtoA, link, down), da
	}
	for _, d := range ends {
		d.clock, d.virtualTime, d.tap, d.down = link.Clock, virtual, link.Tap, down
		for _, src := range d.queues {
			for _, dst := range d.peer.queues {
				l := newLane(link.InFlight)
				src.lanes = append(src.lanes, l)
				dst.in = append(dst.in, l)
			}
		}
	}
	for _, d := range ends {
		for _, q := range d.queues {
			p := &d.peer.cfg
			q.through = d.tap == nil && p.TakeAll && len(d.peer.queues) == 1 && !p.RxInfo && p.MTU >= d.cfg.MTU
			q.injected = newLane(1024)
			q.in = append(q.in, q.injected)
		}
	}
}

func newDevice(cfg Config) (*Device, error) {
	arena := cfg.Arena
	if arena == nil {
		var err error
		if arena, err = ring.NewArena(cfg.Frames, cfg.FrameSize); err != nil {
			return nil, err
		}
	}
	d := &Device{cfg: cfg, arena: arena, Table: steer.New(), rss: driver.NewToeplitz(cfg.RSSKey)}
	table := make([]uint32, 128)
	for i := range table {
		table[i] = uint32(i % cfg.Queues)
	}
	d.caps = driver.Caps{
		Driver: "sim", Mode: "sim", ZeroCopy: true, Virtual: cfg.Virtual,
		MTU: cfg.MTU, MaxFrags: cfg.MaxFrags, RxMetaLen: 0, TSO: cfg.TSO, TSOFrags: cfg.TSOFrags,
		LargeRx: cfg.LargeRx, TxCsum: cfg.TxCsum, TxRing: cfg.TxRing, RxRing: cfg.RxRing,
		RSSKey: cfg.RSSKey, RSSTable: table,
	}
	for i := range cfg.Queues {
		fd, err := newEventFD()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("sim: eventfd: %w", err), d.Close())
		}
		d.queues = append(d.queues, newQueue(d, i, fd))
	}
	return d, nil
}

// Name implements driver.Device.
func (d *Device) Name() string { return d.cfg.Name }

// Queues implements driver.Device.
func (d *Device) Queues() []driver.Queue {
	qs := make([]driver.Queue, len(d.queues))
	for i, q := range d.queues {
		qs[i] = q
	}
	return qs
}

// Arena implements driver.Device.
func (d *Device) Arena() *ring.Arena { return d.arena }

// Caps implements driver.Device.
func (d *Device) Caps() *driver.Caps { return &d.caps }

// Close implements driver.Device. The peer may go on sending, to nobody.
func (d *Device) Close() error {
	if d.closed.Swap(true) {
		return nil
	}
	d.Break(errClosed)
	d.Table.Close()
	for _, q := range d.queues {
		q.close()
	}
	if d.cfg.Arena != nil {
		return nil
	}
	return d.arena.Close()
}

var errClosed = fmt.Errorf("sim: device closed: %w", net.ErrClosed)

// Break makes the queues fail for good with err, as when a NIC is unplugged.
func (d *Device) Break(err error) {
	for _, q := range d.queues {
		q.broken.CompareAndSwap(nil, &err)
		q.wake() // so that the waiting side finds Err
	}
}

// SetLink takes the link down or up, for both ends. Packets sent while it is down
// are lost. Both ends' OnLink has been called when it returns.
func (d *Device) SetLink(up bool) {
	d.down.Store(!up)
	d.linkChanged()
	if d.peer != d {
		d.peer.linkChanged()
	}
}

func (d *Device) linkChanged() {
	if call := d.onLink.Load(); call != nil && !d.closed.Load() {
		(*call)()
	}
}

// LinkUp implements driver.Linked.
func (d *Device) LinkUp() bool { return !d.down.Load() }

// OnLink implements driver.Linked.
func (d *Device) OnLink(call func()) {
	if call == nil {
		d.onLink.Store(nil)
		return
	}
	d.onLink.Store(&call)
}

// SetFaults changes what the link does to the packets that d sends.
func (d *Device) SetFaults(f Faults) error {
	if err := f.check(); err != nil {
		return err
	}
	d.out.set(f)
	return nil
}

// LinkStats counts what the link did to the packets that d sent.
func (d *Device) LinkStats() LinkStats {
	st := d.out.stats()
	for _, q := range d.queues {
		st.Packets += q.txPackets.Load()
	}
	return st
}

// Wakeups counts the writes to the eventfds of d's queues.
func (d *Device) Wakeups() (n uint64) {
	for _, q := range d.queues {
		n += q.wakeups.Load()
	}
	return n
}

// Inject lets a frame arrive at a queue as it is, past link and steering. It may
// be called from any goroutine. It returns false when too many frames wait
// already.
func (d *Device) Inject(queue int, frame []byte) bool {
	q := d.queues[queue]
	q.injectMu.Lock()
	l := q.injected
	p, ok := l.back.Pop()
	if !ok {
		p = new(packet)
	}
	*p = packet{buf: append(p.buf[:0], frame...), home: l}
	ok = l.fwd.Push(p)
	q.injectMu.Unlock()
	if !ok {
		return false
	}
	q.lower(0)
	q.notify()
	return true
}

// Next returns when the next event at d is due, in ns: a packet arrives or, with
// CompletionDelay, a frame comes back. A time that is not in the future says that
// something has happened already, math.MaxInt64 that nothing will. It is for the
// goroutine that drives virtual time.
func (d *Device) Next() int64 {
	next := int64(never)
	for _, q := range d.queues {
		if q.ready.Load() > 0 {
			return 0
		}
		next = min(next, q.nextDue.Load())
		if q.comps.n > 0 {
			next = min(next, q.comps.at(0).at)
		}
	}
	return next
}

// Step wakes the armed queues of d whose packets have arrived, after virtual
// time was moved.
func (d *Device) Step() {
	for _, q := range d.queues {
		q.notify()
	}
}
