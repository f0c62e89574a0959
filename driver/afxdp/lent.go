package afxdp

import (
	"fmt"
	"os"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ring"
)

// Lent describes sockets that another process has made and bound, for this one, which
// may have no privilege. What is steered to them, and what may leave by them, is that
// process's business.
type Lent struct {
	Index int // of the interface whose packets they carry

	// RX receives into Arena, its UMEM. TX transmits from it. Packet is a packet
	// socket for packets that the kernel segments, -1 for none.
	RX, TX, Packet int
	RxRing, TxRing int // entries
	TxMeta         int // bytes of transmit metadata in front of packets, 0 for none
	Arena          *ring.Arena
	Shared         bool // Arena is another device's
	Sharers        int  // interfaces that are to share it; 0 means one

	MTU        int
	SegmentMax int  // largest IP packet that Packet takes
	LargeRx    bool // packets above the MTU may arrive

	Broker string // see driver.Caps

	// InNS calls its argument inside the interface's network namespace. nil: the current
	// one.
	InNS func(func() error) error
	Log  *zap.Logger // nil: silent
}

// Borrowed is a device over lent sockets, with one queue: all of a Device but the steering.
type Borrowed struct{ d Device }

// Borrow maps the rings of lent sockets. The sockets are its own from then on, and so is
// the arena unless it is Shared. After an error the sockets are closed, the arena is not.
func Borrow(l Lent) (*Borrowed, error) {
	s, err := borrow(&l)
	if err != nil && l.Packet >= 0 {
		_ = unix.Close(l.Packet)
	}
	return s, err
}

func borrow(l *Lent) (*Borrowed, error) {
	c := Config{RxRing: l.RxRing, TxRing: l.TxRing, Arena: l.Arena, Queues: []int{0}, Sharers: l.Sharers, InNS: l.InNS, Log: l.Log}
	s := &Borrowed{Device{index: l.Index, receive: 1, qdisc: -1, arena: l.Arena, shared: true}}
	d := &s.d
	d.returns.idle.L = &d.returns.mu
	q := &Queue{
		dev: d, tag: 1, owner: make([]uint16, l.Arena.Frames()), arena: l.Arena, fd: l.RX, txFD: l.TX, ep: -1,
		txMeta: l.TxMeta,
	}
	veth := &linkInfo{driver: "veth"} // what is lent is an end of a veth pair
	q.maxFrags = maxFrags(veth, bindMode{frags: true})
	d.queues.set([]*Queue{q})
	of, err := q.borrow(&c)
	if err != nil {
		_ = d.Close()
		unmap(q.mems())
		return nil, err
	}
	d.name, d.inNS, d.log = of.name, c.InNS, c.Log
	cleanUp(q)
	q.lend(&c)
	d.shared = l.Shared
	d.caps = driver.Caps{
		EdgesFree: true, Driver: of.driver, Mode: of.progMode, Virtual: of.virtual(),
		Broker: l.Broker, CopyReason: "packets pass a link of the broker's",
		MTU: l.MTU, MaxFrags: q.maxFrags, RxMetaLen: rxHeadroom, LargeRx: l.LargeRx,
		TxCsum: q.txMeta > 0, TxRoom: q.txMeta, TxRing: c.TxRing, RxRing: c.RxRing,
	}
	d.describeQueue(q)
	if l.Packet >= 0 {
		q.lane = newLane(l.Packet)
		d.caps.TSO, d.caps.TSOFrags = l.SegmentMax, laneFrags
	}
	return s, nil
}

// borrow maps the rings, and returns the interface.
func (q *Queue) borrow(c *Config) (of *linkInfo, err error) {
	if err := c.defaults(); err != nil {
		return nil, err
	}
	err = c.InNS(func() error {
		of, err = lookupLink(fmt.Sprint(q.dev.index))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("afxdp: %w", err)
	}
	for _, fd := range []int{q.fd, q.txFD} {
		// It shows that the socket is one of AF_XDP, too.
		if _, err := xdpOptions(fd); err != nil {
			return nil, fmt.Errorf("afxdp: a lent socket: %w", os.NewSyscallError("getsockopt XDP_OPTIONS", err))
		}
	}
	if err := q.mapRings(c); err != nil {
		return nil, err
	}
	if err := q.mapTx(c); err != nil {
		return nil, err
	}
	_ = setXDPInt(q.txFD, unix.XDP_MAX_TX_SKB_BUDGET, uint32(max(c.TxBudget, 32)))
	return of, q.makeEpoll()
}

// Name implements driver.Device.
func (s *Borrowed) Name() string { return s.d.name }

// Queues implements driver.Device.
func (s *Borrowed) Queues() []driver.Queue { return s.d.Queues() }

// Arena implements driver.Device.
func (s *Borrowed) Arena() *ring.Arena { return s.d.arena }

// Caps implements driver.Device.
func (s *Borrowed) Caps() *driver.Caps { return &s.d.caps }

// Close implements driver.Device.
func (s *Borrowed) Close() error { return s.d.Close() }

// Retire implements driver.Retirer.
func (s *Borrowed) Retire() (left int) { return s.d.Retire() }

// Release implements driver.Retirer.
func (s *Borrowed) Release() error { return s.d.Release() }

// Detach implements driver.Retirer: there is no program of ours.
func (s *Borrowed) Detach() error { return nil }
