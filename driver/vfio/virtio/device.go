package virtio

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/steer"
	"github.com/onload-go/onload/driver/vfio"
	"github.com/onload-go/onload/ring"
)

// Config opens a device.
type Config struct {
	Address string // PCI address, such as 0000:01:00.0

	// Arena is another device's, whose packets this one is to carry too; nil: the
	// device makes its own. Frames and FrameSize count only then.
	Arena *ring.Arena
	// TakeAll has every frame that comes be ours: there is no kernel to answer what is
	// not steered here.
	TakeAll bool

	Frames         int // of the arena; 0: 4096
	FrameSize      int // bytes, 2048 or 4096; 0: 4096, which hold two segments of Ethernet's MTU
	RxRing, TxRing int // entries at most, a power of two; 0: 256
	MTU            int // where the device says none; 0: 1500
	Offloads       Offloads
	Queues         int // pairs at most; 0: 1

	without uint64 // features that are not taken, for tests
}

func (c *Config) defaults() error {
	for _, d := range []struct {
		v  *int
		to int
	}{{&c.Frames, 4096}, {&c.FrameSize, 4096}, {&c.RxRing, 256}, {&c.TxRing, 256}, {&c.MTU, 1500}, {&c.Queues, 1}} {
		if *d.v == 0 {
			*d.v = d.to
		}
	}
	for _, n := range []int{c.RxRing, c.TxRing} {
		if n < 2 || n > 1<<15 || n&(n-1) != 0 {
			return fmt.Errorf("virtio: a ring of %d entries, want a power of two of 2 to 32768", n)
		}
	}
	if c.MTU < 68 || c.MTU > 65535 {
		return fmt.Errorf("virtio: MTU %d, want 68 to 65535", c.MTU)
	}
	return nil
}

// Device is a virtio network device. It implements driver.Device, driver.Linked and
// driver.Retirer. There is no kernel behind it: packets that are not ours are dropped.
type Device struct {
	*steer.Table
	container *vfio.Container
	pci       *vfio.Device
	regs      *structures
	features  uint64
	takeAll   bool
	mac       [6]byte
	arena     *ring.Arena
	borrowed  bool // arena is another device's
	arenaIOVA uint64
	queues    []*Queue
	control   control
	caps      driver.Caps

	changes *os.File // eventfd of changes of the configuration
	up      atomic.Bool

	mu     sync.Mutex
	halted bool
	closed bool // released
	freed  bool // the arena is
	onLink func()
}

var (
	_ driver.Device  = (*Device)(nil)
	_ driver.Linked  = (*Device)(nil)
	_ driver.Retirer = (*Device)(nil)
)

// resetPatience is how long a device may take to reset.
const resetPatience = 10 * time.Second

// Open takes a device that vfio-pci has, resets it and starts it (3.1.1).
func Open(c Config) (_ *Device, err error) {
	if err := c.defaults(); err != nil {
		return nil, err
	}
	d := &Device{Table: steer.New(), takeAll: c.TakeAll, arena: c.Arena, borrowed: c.Arena != nil}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if d.container, err = vfio.NewContainer(); err != nil {
		return nil, err
	}
	if d.pci, err = vfio.Open(d.container, c.Address); err != nil {
		return nil, err
	}
	// The kernel has reset the function for whoever opens it.
	if err := d.pci.Master(); err != nil {
		return nil, err
	}
	regs, err := find(d.pci)
	if err != nil {
		return nil, err
	}
	if err := regs.reset(); err != nil {
		return nil, err
	}
	d.regs = regs
	if !d.borrowed {
		if d.arena, err = ring.NewArena(c.Frames, c.FrameSize); err != nil {
			return nil, err
		}
	}
	if err := d.agree(&c); err != nil {
		return nil, err
	}
	if d.arenaIOVA, err = d.container.Map(d.arena.Mem()); err != nil {
		return nil, err
	}
	if err := d.describe(&c); err != nil {
		return nil, err
	}
	pairs := d.pairs(&c)
	if err := d.newQueues(&c, pairs); err != nil {
		return nil, err
	}
	d.regs.common.Write8(regStatus, statusAcknowledge|statusDriver|statusFeaturesOK|statusDriverOK)
	d.readLink()
	go d.watch(d.hear)
	if err := d.pci.OnRemoval(d.removed); err != nil {
		return nil, err
	}
	return d, d.spread(pairs)
}

// reset stops the device (4.1.4.3.1: the driver waits until the status reads 0), unless
// it is gone.
func (s *structures) reset() error {
	s.common.Write8(regStatus, 0)
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		switch status := s.common.Read8(regStatus); {
		case status == 0, status == statusGone:
			return nil
		case time.Since(start) > resetPatience:
			return errors.New("virtio: the device does not reset")
		}
	}
}

// describe reads the device's configuration and fills in what it can do.
func (d *Device) describe(c *Config) error {
	if d.features&featRSS != 0 && len(d.regs.device) < netRSSLen {
		return fmt.Errorf("virtio: a device with RSS has a configuration of %d bytes, want %d", len(d.regs.device), netRSSLen)
	}
	mtu := c.MTU
	if d.features&featMTU != 0 {
		mtu = int(d.regs.device.Read16(netMTU))
	}
	for i := range d.mac {
		d.mac[i] = d.regs.device.Read8(netMAC + i)
	}
	// 5.1.4.2: buffers for a packet of that size, or packets wait for them for ever.
	if entries := d.regs.entries(0, c.RxRing); mtu+maxLink > roomOf(d.features, entries, d.arena.FrameSize()) {
		merges := "a receive ring of " + strconv.Itoa(entries)
		if d.features&featMergeBuffers == 0 {
			merges = "a device that does not merge them (VIRTIO_NET_F_MRG_RXBUF)"
		}
		return fmt.Errorf("virtio: an MTU of %d does not fit into frames of %d bytes, with %s", mtu, d.arena.FrameSize(), merges)
	}
	d.caps = driver.Caps{
		Driver: "virtio", Mode: "vfio", ZeroCopy: true,
		MTU: mtu, MaxFrags: maxFrags, RxMetaLen: rxOff, TxRoom: headerLen,
	}
	d.offloads()
	return nil
}

// pairs is how many pairs of queues are used.
func (d *Device) pairs(c *Config) int {
	if d.features&(featMQ|featRSS) == 0 {
		return 1
	}
	return max(1, min(c.Queues, int(d.regs.device.Read16(netPairs)), d.pci.Vectors()-1))
}

// newQueues makes pairs of virtqueues and the one of commands, and has interrupts.
func (d *Device) newQueues(c *Config, pairs int) (err error) {
	var fd int
	if d.changes, fd, err = newEvent("virtio-config"); err != nil {
		return err
	}
	fds := []int{fd}
	for range pairs {
		q := &Queue{dev: d, arena: d.arena, fd: -1}
		if q.fd, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
			return fmt.Errorf("virtio: eventfd: %w", err)
		}
		fds = append(fds, q.fd)
		d.queues = append(d.queues, q)
	}
	rxVector, err := d.interrupts(fds)
	if err != nil {
		return err
	}
	most := maxFrags
	if d.caps.TSO > 0 {
		most = tsoFrags
	}
	// 5.1.2: receiveq1, transmitq1 and so on, and behind all that the device has controlq.
	for i, q := range d.queues {
		if q.rx, err = d.newRing(uint16(2*i), c.RxRing, 1, rxVector(i)); err != nil {
			return err
		}
		if q.tx, err = d.newRing(uint16(2*i+1), c.TxRing, most, noVector); err != nil {
			return err
		}
		q.prepare()
		// RxPending may look at the ring after Close.
		runtime.AddCleanup(q, unmap, append(q.rx.memory(), q.tx.memory()...))
	}
	q := d.queues[0]
	d.caps.RxRing, d.caps.TxRing = q.rx.entries(), q.tx.entries()
	d.caps.MaxFrags, d.caps.TSOFrags = min(d.caps.MaxFrags, d.caps.TxRing), min(d.caps.TSOFrags, d.caps.TxRing)
	if pairs == 1 {
		return nil
	}
	if d.control.vq, err = d.newRing(2*d.regs.device.Read16(netPairs), controlRing, 2, noVector); err != nil {
		return err
	}
	if d.control.mem, d.control.iova, err = d.container.Alloc(commandMost); err != nil {
		return err
	}
	runtime.AddCleanup(d, unmap, append(d.control.vq.memory(), d.control.mem))
	return nil
}

func unmap(all [][]byte) {
	for _, m := range all {
		if m != nil {
			_ = unix.Munmap(m) // what was mapped can be unmapped
		}
	}
}

// prepare makes what the driver remembers of its rings.
func (q *Queue) prepare() {
	rx, tx := q.rx.entries(), q.tx.entries()
	q.lent, q.fill, q.lacks = make([]ring.Frame, rx), make([]ring.Frame, rx), rx
	for i := range q.lent {
		q.lent[i] = ring.NoFrame
	}
	q.sent, q.slots, q.first = make([]slot, tx), make([]uint16, tx), make([]uint16, tx)
	for i := range q.slots {
		q.slots[i] = uint16(tx - 1 - i)
	}
}

// offloads says in Caps which work the device does.
func (d *Device) offloads() {
	has := func(f uint64) bool { return d.features&f != 0 }
	c := &d.caps
	c.TxCsum, c.Virtual, c.LargeRx = has(featCsum), has(featGuestCsum), has(featGuestTSO)
	if has(featHostTSO) {
		c.TSO, c.TSOFrags = tsoSize, tsoFrags
	}
}

// entries selects virtqueue i, and returns how many entries it has, at most most
// (4.1.5.1.3).
func (s *structures) entries(i uint16, most int) int {
	s.common.Write16(regQueueSelect, i)
	size := int(s.common.Read16(regQueueSize))
	for size > most {
		size /= 2
	}
	return size
}

// newRing makes virtqueue i of the device, with at most most entries.
func (d *Device) newRing(i uint16, most, buffers int, vector uint16) (virtqueue, error) {
	r := d.regs.common
	size := d.regs.entries(i, most)
	if size == 0 || size&(size-1) != 0 {
		return nil, fmt.Errorf("virtio: queue %d has %d entries", i, r.Read16(regQueueSize))
	}
	q, err := newVirtqueue(d.container, size, buffers, d.features)
	if err != nil {
		return nil, err
	}
	r.Write16(regQueueSize, uint16(size))
	r.Write16(regQueueVector, vector)
	if got := r.Read16(regQueueVector); got != vector {
		return nil, fmt.Errorf("virtio: queue %d: the device refuses interrupt %d", i, vector)
	}
	desc, driver, device := q.parts()
	for reg, at := range map[int]uint64{regQueueDesc: desc, regQueueDriver: driver, regQueueDevice: device} {
		r.Write32(reg, uint32(at))
		r.Write32(reg+4, uint32(at>>32))
	}
	at := int(r.Read16(regQueueNotifyOff)) * d.regs.multiplier
	if at+2 > len(d.regs.notify) {
		return nil, fmt.Errorf("virtio: queue %d is notified beyond the notify structure", i)
	}
	p := q.where()
	p.index, p.bell = i, d.regs.notify[at:]
	r.Write16(regQueueEnable, 1)
	return q, nil
}

// addressOf is where the device finds the frame.
func (d *Device) addressOf(f ring.Frame) uint64 {
	return d.arenaIOVA + uint64(f)*uint64(d.arena.FrameSize())
}

// Name implements driver.Device: the PCI address.
func (d *Device) Name() string { return d.pci.Address() }

// MAC is the device's hardware address.
func (d *Device) MAC() [6]byte { return d.mac }

// Queues implements driver.Device.
func (d *Device) Queues() (all []driver.Queue) {
	for _, q := range d.queues {
		all = append(all, q)
	}
	return all
}

// Arena implements driver.Device.
func (d *Device) Arena() *ring.Arena { return d.arena }

// Caps implements driver.Device.
func (d *Device) Caps() *driver.Caps { return &d.caps }
