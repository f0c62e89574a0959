package afxdp

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver"
)

// An interface may get more queues while a device is open (ethtool -L). The
// kernel announces that, and the program drops packets of ours on a queue without
// a socket until the queue is taken: the kernel would answer them with resets. A
// queue that has a socket stays, since the kernel refuses to take it away.

// queues is the list of a device's queues. A list that was set does not change.
type queues struct{ list atomic.Pointer[[]*Queue] }

func (q *queues) set(l []*Queue) {
	l = l[:len(l):len(l)] // the next one is a copy
	q.list.Store(&l)
}

func (q *queues) all() []*Queue {
	if l := q.list.Load(); l != nil {
		return *l
	}
	return nil
}

func (q *queues) first() *Queue { return q.all()[0] }

func driverQueues(l []*Queue) []driver.Queue {
	qs := make([]driver.Queue, len(l))
	for i, q := range l {
		qs[i] = q
	}
	return qs
}

// growth is what Grow needs.
type growth struct {
	watch watch // of the number of queues
	c     Config
	mode  bindMode

	mu       sync.Mutex // one Grow at a time; Close waits for it
	closed   bool
	unmapped []*Queue               // queues of ours that have no XSKMAP entry yet
	missing  atomic.Pointer[string] // why queues of the interface are not ours
}

// close ends the watch, and waits for a Grow that is under way.
func (g *growth) close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil
	}
	g.closed = true
	return g.watch.close()
}

// watchQueues has c.Changed called when the number of queues changes.
func (d *Device) watchQueues(c *Config, l *linkInfo, m bindMode) {
	g := &d.growth
	g.c, g.mode = *c, m
	g.c.Arena, g.c.Sharers = d.arena, max(c.Sharers, 1)
	if c.Changed == nil {
		return
	}
	family, group, err := ethtoolMonitor()
	if err == nil {
		err = g.watch.open(unix.NETLINK_GENERIC, int(group))
	}
	if err != nil {
		c.Log.Warn("afxdp: queues that come later are not noticed", zap.String("interface", l.name), zap.Error(err))
		return
	}
	if c.allOfThem {
		d.await(xdpDrop)
	}
	g.watch.run(func(typ uint16, body []byte) bool {
		return typ == family && channelsNotice(body) == d.index
	}, c.Changed)
	if now, err := lookupLink(fmt.Sprint(d.index)); err == nil && now.rx != l.rx {
		c.Changed() // between the look and the watch
	}
}

// Attributes of a notice of channels (linux/ethtool_netlink_generated.h): its header,
// and there the interface's number.
const (
	channelsHeader = 1
	headerIndex    = 1
)

// channelsNotice returns the number of the interface whose channels a message of the
// ethtool family is about, 0 where it is about something else.
func channelsNotice(body []byte) (index int) {
	if len(body) < genlLen || body[0] != unix.ETHTOOL_MSG_CHANNELS_NTF {
		return 0
	}
	nlAttrs(body[genlLen:], func(typ uint16, v []byte) {
		if typ != channelsHeader {
			return
		}
		nlAttrs(v, func(typ uint16, v []byte) {
			if typ == headerIndex {
				index = int(attrUint32(v))
			}
		})
	})
	return index
}

// Actions of an XDP program (linux/bpf.h).
const (
	xdpDrop = 1
	xdpPass = 2
)

// await sets what becomes of packets of ours on queues without a socket: XDP_DROP
// or XDP_PASS.
func (d *Device) await(action uint32) {
	if err := d.objs.Unheld.Set(action); err != nil {
		d.log.Warn("afxdp: packets on new queues", zap.String("interface", d.name), zap.Error(err))
	}
}

// Missing implements driver.Grower.
func (d *Device) Missing() string {
	if s := d.growth.missing.Load(); s != nil {
		return *s
	}
	return ""
}

// Grow implements driver.Grower.
func (d *Device) Grow(ctx context.Context, take func([]driver.Queue) error) error {
	g := &d.growth
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return errClosed
	}
	err := d.inNS(func() error { return errors.Join(d.grow(ctx, take), d.redirect()) })
	var missing string
	if err != nil {
		missing = strings.ReplaceAll(err.Error(), "\n", "; ")
		d.await(xdpPass)
	} else if g.c.allOfThem && g.watch.f != nil {
		d.await(xdpDrop)
	}
	g.missing.Store(&missing)
	return err
}

// grow runs in the interface's namespace.
func (d *Device) grow(ctx context.Context, take func([]driver.Queue) error) (err error) {
	l, err := lookupLink(fmt.Sprint(d.index))
	if errors.Is(err, unix.ENODEV) {
		return nil // it was deleted, and gets no more queues
	}
	if err != nil {
		return err
	}
	g, old := &d.growth, d.queues.all()
	held := map[int]bool{}
	for _, q := range old {
		held[q.id] = true
	}
	var ids []int
	for id := d.receive; id < l.rx; id++ { // others were left out when the device was opened
		if !held[id] {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	if !g.c.allOfThem {
		return fmt.Errorf("afxdp: %s has %d queues, of which %d are not among those named (ONLOAD_QUEUES)", l.name, l.rx, len(ids))
	}
	if l.driver == "veth" && d.caps.Mode == ModeNative.String() {
		// veth_set_channels gives them no program (Linux 6.18): the kernel gets all
		// their packets.
		return fmt.Errorf("afxdp: queues %v of %s run no XDP program: those that a veth in native mode gets later have none", ids, l.name)
	}
	c := g.c
	c.Queues = make([]int, l.rx) // their number sizes the rings' shares of the arena
	all := old
	defer func() {
		if err != nil {
			for _, q := range all[len(old):] {
				q.fail(errClosed)
				_ = q.closeSocket()
			}
		}
	}()
	for _, id := range ids {
		q, err := d.bindQueue(ctx, &c, l, g.mode, id, old[0].owner, all)
		if err != nil {
			return err
		}
		d.describeQueue(q)
		d.laneOf(q)
		q.ruled.Store(d.ruled.Load() && q.qdisc != nil)
		all = append(all[:len(all):len(all)], q)
	}
	if err := take(driverQueues(all[len(old):])); err != nil {
		return fmt.Errorf("afxdp: queues %v of %s: %w", ids, l.name, err)
	}
	d.queues.set(all)
	for _, q := range old {
		q.most.Store(int32(min(int(q.most.Load()), c.share(d.arena))))
	}
	for _, q := range all[len(old):] {
		q.ruled.Store(d.ruled.Load() && q.qdisc != nil) // again: the watch looks at the list
		g.unmapped = append(g.unmapped, q)
	}
	d.log.Info("afxdp: queues that came are taken", zap.String("interface", l.name), zap.Ints("queues", ids))
	return nil
}

// redirect has the program redirect to the queues that it does not redirect to yet. The
// error is of those that it still does not: the next Grow tries them again.
func (d *Device) redirect() error {
	var (
		errs []error
		left []*Queue
	)
	for _, q := range d.growth.unmapped {
		if err := d.receiveBy(q); err != nil {
			left = append(left, q)
			errs = append(errs, fmt.Errorf("afxdp: queue %d of %s receives nothing: %w", q.id, d.name, err))
		}
	}
	d.growth.unmapped = left
	return errors.Join(errs...)
}
