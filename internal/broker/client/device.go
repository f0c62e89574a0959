package client

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"sync"
	"syscall"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/afxdp"
	"github.com/onload-go/onload/internal/broker/claim"
	"github.com/onload-go/onload/internal/broker/wire"
	"github.com/onload-go/onload/internal/event"
	"github.com/onload-go/onload/ring"
)

// Config says which interface is opened, and how.
type Config struct {
	Index     int // of the interface
	Frames    int // of the arena that the device makes
	FrameSize int // bytes
	Ring      int // entries of each ring
	Segments  bool
	// Arena is a shared one of the device that was opened first; nil: the device makes its own.
	Arena   *ring.Arena
	Sharers int // devices that are to share it; 0 means one
	// GroupPriority is that of the kernel sockets that hear multicast groups.
	GroupPriority int
	// InNS calls its argument inside the interface's network namespace.
	InNS func(func() error) error
}

// Device is a link of an interface. It implements driver.Device.
type Device struct {
	*afxdp.Borrowed
	c     *Client
	link  uint32
	index uint32
	token [16]byte

	// turn is held while a change is asked for. mu guards the maps, and is never held
	// while the broker is waited for: the next one is told what they hold.
	turn   sync.Mutex
	mu     sync.Mutex
	closed bool
	ports  map[portKey]*held
	flows  map[flowKey]int
}

// begin takes the turn of a change. It returns errClosed after Close.
func (d *Device) begin() error {
	d.turn.Lock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		d.turn.Unlock()
		return errClosed
	}
	return nil
}

type portKey struct {
	proto uint8
	local netip.AddrPort
}

type flowKey struct {
	proto         uint8
	local, remote netip.AddrPort
}

// held is a port of the device's.
type held struct {
	n      int  // uses
	socket int  // a duplicate of the kernel's that proves the port, for the next broker
	closed bool // the listener has closed; socket does not listen any more
}

var (
	_ driver.Device  = (*Device)(nil)
	_ driver.Prover  = (*Device)(nil)
	_ driver.Retirer = (*Device)(nil)
)

// Open asks for a link of an interface.
func (c *Client) Open(o Config) (_ *Device, err error) {
	arena := o.Arena
	if arena == nil {
		if arena, err = ring.NewSharedArena(o.Frames, o.FrameSize); err != nil {
			return nil, err
		}
		defer func() {
			if err != nil {
				_ = arena.Close()
			}
		}()
	}
	if arena.FD() < 0 {
		return nil, fmt.Errorf("memory that a broker cannot map: %w", syscall.ENOBUFS)
	}
	segments := uint8(0)
	if o.Segments {
		segments = 1
	}
	d := &Device{c: c, index: uint32(o.Index), ports: map[portKey]*held{}, flows: map[flowKey]int{}}
	c.mu.Lock()
	c.next++
	d.link = c.next
	c.mu.Unlock()
	a, err := c.ask(&wire.Grant{
		Link: d.link, Index: d.index, FrameSize: uint32(arena.FrameSize()), RxRing: uint32(o.Ring), TxRing: uint32(o.Ring),
		Segments: segments, GroupPriority: uint32(o.GroupPriority),
	}, arena.FD())
	if err != nil {
		return nil, err
	}
	g, ok := a.m.(*wire.Granted)
	if !ok {
		wire.CloseAll(a.fds)
		return nil, unexpected(a.m)
	}
	packet := -1
	if g.Segments == 1 {
		packet = a.fds[2]
	}
	d.token = g.Token
	d.Borrowed, err = afxdp.Borrow(afxdp.Lent{
		Index: o.Index, RX: a.fds[0], TX: a.fds[1], Packet: packet, RxRing: o.Ring, TxRing: o.Ring,
		TxMeta: int(g.TxMeta), Arena: arena, Shared: o.Arena != nil, Sharers: o.Sharers,
		MTU: int(g.MTU), SegmentMax: int(g.SegmentMax), LargeRx: g.LargeRx == 1,
		Broker: c.path, InNS: o.InNS, Log: c.log,
	})
	if err != nil {
		// There are only so many links: another attempt would get another one.
		return nil, errors.Join(err, c.askOK(&wire.Leave{Link: d.link}))
	}
	c.mu.Lock()
	c.devices[d.link] = d
	c.mu.Unlock()
	return d, nil
}

// AddPort implements driver.Steering. The broker wants a proof.
func (d *Device) AddPort(proto uint8, local netip.AddrPort) error {
	return d.ProvePort(proto, local, -1)
}

// ProvePort implements driver.Prover.
func (d *Device) ProvePort(proto uint8, local netip.AddrPort, socket int) (err error) {
	if err := checkPort(proto, local); err != nil {
		return err
	}
	if err := d.begin(); err != nil {
		return err
	}
	defer d.turn.Unlock()
	k := keyOf(proto, local)
	was := d.again(k)
	if was != nil && !was.closed {
		return nil
	}
	defer func() {
		if err != nil {
			d.undo(was)
		}
	}()
	if socket < 0 {
		return fmt.Errorf("the broker gives a port only to the socket that is bound to it: %w", errors.ErrUnsupported)
	}
	if proto == unix.IPPROTO_UDP {
		if err := claim.Lock(socket); err != nil {
			return err
		}
	}
	dup, err := unix.FcntlInt(uintptr(socket), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("a copy of the socket of %v: %w", local, err)
	}
	err = d.c.askOK(&wire.Claim{Link: d.link, Port: wire.MakeEndpoint(proto, k.local)}, dup)
	if err != nil {
		_ = unix.Close(dup)
		if r := (*Refusal)(nil); errors.As(err, &r) {
			return fmt.Errorf("%w: %w", driver.ErrRefused, err)
		}
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if was == nil {
		d.ports[k] = &held{n: 1, socket: dup}
		return nil
	}
	_ = unix.Close(was.socket)
	was.socket, was.closed = dup, false
	return nil
}

// again counts another use of a port that the device has, and returns it, or nil.
func (d *Device) again(k portKey) *held {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := d.ports[k]
	if h != nil {
		h.n++
	}
	return h
}

// undo takes the count of again back.
func (d *Device) undo(h *held) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if h != nil {
		h.n--
	}
}

// Unlisten implements driver.Prover.
func (d *Device) Unlisten(local netip.AddrPort) {
	if d.begin() != nil {
		return
	}
	defer d.turn.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if h := d.ports[keyOf(unix.IPPROTO_TCP, local)]; h != nil {
		// The duplicate would take clients that nobody serves.
		_ = unix.Shutdown(h.socket, unix.SHUT_RDWR)
		h.closed = true
	}
}

// SharePort implements driver.Prover.
func (d *Device) SharePort(local netip.AddrPort) error {
	if err := d.begin(); err != nil {
		return err
	}
	defer d.turn.Unlock()
	var errs []error
	for _, at := range d.unlistened(local) {
		errs = append(errs, d.c.askOK(&wire.Share{Link: d.link, Port: wire.MakeEndpoint(unix.IPPROTO_TCP, at)}))
	}
	return errors.Join(errs...)
}

// unlistened returns the ports of closed listeners that a listener at local has in common
// with them. A wildcard stands for every address.
func (d *Device) unlistened(local netip.AddrPort) (l []netip.AddrPort) {
	all := func(a netip.Addr) bool { return !a.IsValid() || a.IsUnspecified() }
	a := local.Addr().Unmap()
	d.mu.Lock()
	defer d.mu.Unlock()
	for k, h := range d.ports {
		at := k.local
		if h.closed && k.proto == unix.IPPROTO_TCP && at.Port() == local.Port() && (all(a) || all(at.Addr()) || a == at.Addr()) {
			l = append(l, at)
		}
	}
	return l
}

// RemovePort implements driver.Steering.
func (d *Device) RemovePort(proto uint8, local netip.AddrPort) error {
	if d.begin() != nil {
		return nil // it went with the device
	}
	defer d.turn.Unlock()
	k := keyOf(proto, local)
	d.mu.Lock()
	h := d.ports[k]
	last := h != nil && h.n == 1
	switch {
	case last:
		delete(d.ports, k)
	case h != nil:
		h.n--
	}
	d.mu.Unlock()
	switch {
	case h == nil:
		return fmt.Errorf("no such port: %w", syscall.ENOENT)
	case !last:
		return nil
	}
	err := d.c.askOK(&wire.Release{Link: d.link, Port: wire.MakeEndpoint(proto, k.local)})
	if errors.Is(err, syscall.ENOENT) {
		err = nil // a broker that has just come does not know it
	}
	return errors.Join(err, unix.Close(h.socket))
}

// AddFlow implements driver.Steering. The broker leaves flows of the device's ports to the
// kernel, but gives none whose port nobody has proven.
func (d *Device) AddFlow(proto uint8, local, remote netip.AddrPort, ours bool) error {
	if err := checkPort(proto, local); err != nil {
		return err
	}
	if l, r := local.Addr().Unmap(), remote.Addr().Unmap(); !l.IsValid() || !r.IsValid() || l.Is4() != r.Is4() || l.IsUnspecified() || r.IsUnspecified() || remote.Port() == 0 {
		return fmt.Errorf("flow %v to %v: must be exact: %w", local, remote, syscall.EINVAL)
	}
	if ours {
		return fmt.Errorf("the broker gives no flow without its port: %w", errors.ErrUnsupported)
	}
	if err := d.begin(); err != nil {
		return err
	}
	defer d.turn.Unlock()
	k := flowKey{proto, unmap(local), unmap(remote)}
	if d.count(k, 1) > 1 {
		return nil
	}
	err := d.c.askOK(k.except(d.link))
	if err != nil {
		d.count(k, -1)
	}
	return err
}

// RemoveFlow implements driver.Steering.
func (d *Device) RemoveFlow(proto uint8, local, remote netip.AddrPort) error {
	if d.begin() != nil {
		return nil
	}
	defer d.turn.Unlock()
	k := flowKey{proto, unmap(local), unmap(remote)}
	switch n := d.count(k, -1); {
	case n < 0:
		d.count(k, 1)
		return fmt.Errorf("no such flow: %w", syscall.ENOENT)
	case n > 0:
		return nil
	}
	err := d.c.askOK((*wire.Unexcept)(k.except(d.link)))
	if errors.Is(err, syscall.ENOENT) {
		err = nil
	}
	return err
}

// count changes how often a flow is left to the kernel, and returns that.
func (d *Device) count(k flowKey, by int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.flows[k] + by
	if d.flows[k] = n; n == 0 {
		delete(d.flows, k)
	}
	return n
}

func (k flowKey) except(link uint32) *wire.Except {
	return &wire.Except{Link: link, Local: wire.MakeEndpoint(k.proto, k.local), Remote: wire.MakeEndpoint(k.proto, k.remote)}
}

func keyOf(proto uint8, local netip.AddrPort) portKey { return portKey{proto, unmap(local)} }

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

func checkPort(proto uint8, local netip.AddrPort) error {
	switch {
	case proto != unix.IPPROTO_TCP && proto != unix.IPPROTO_UDP:
		return fmt.Errorf("protocol %d: %w", proto, syscall.EPROTONOSUPPORT)
	case local.Port() == 0:
		return fmt.Errorf("port 0: %w", syscall.EINVAL)
	}
	return nil
}

var errClosed = fmt.Errorf("device closed: %w", syscall.EBADF)

// Close implements driver.Device. The kernel removes the link when its sockets are
// closed, and the broker the ports with it, at the latest when the connection ends.
func (d *Device) Close() error {
	d.release()
	return d.Borrowed.Close()
}

// Release implements driver.Retirer.
func (d *Device) Release() error {
	d.release()
	return d.Borrowed.Release()
}

// release gives the link back, once.
func (d *Device) release() {
	if d.begin() != nil {
		return
	}
	defer d.turn.Unlock()
	d.c.mu.Lock()
	delete(d.c.devices, d.link)
	d.c.mu.Unlock()
	d.mu.Lock()
	d.closed = true
	ports := d.ports
	d.ports, d.flows = nil, nil
	d.mu.Unlock()
	if err := d.c.askOK(&wire.Leave{Link: d.link}); err != nil {
		d.c.log.Debug("link is not given back", zap.Error(err))
	}
	for _, h := range ports {
		_ = unix.Close(h.socket)
	}
}

// resume takes the link up with the next broker, and claims all again.
func (d *Device) resume(s *session) error {
	d.mu.Lock()
	closed, flows := d.closed, maps.Clone(d.flows)
	ports := map[portKey]int{}
	for k, h := range d.ports {
		ports[k] = h.socket
	}
	d.mu.Unlock()
	if closed {
		return nil
	}
	tell := func(m wire.Message, fds ...int) error {
		a, err := s.roundTrip(m, fds...)
		if err != nil {
			return err
		}
		wire.CloseAll(a.fds)
		return refusal(a.m)
	}
	if err := tell(&wire.Resume{Link: d.link, Index: d.index, Token: d.token}); err != nil {
		return err
	}
	for k, socket := range ports {
		if err := tell(&wire.Claim{Link: d.link, Port: wire.MakeEndpoint(k.proto, k.local)}, socket); err != nil {
			d.c.log.Warn("a port is lost", event.BrokerPort.Field(), zap.Stringer("address", k.local), zap.Error(err))
		}
	}
	for k := range flows {
		if err := tell(k.except(d.link)); err != nil {
			d.c.log.Warn("a connection that is the kernel's is not told", event.BrokerUntold.Field(), zap.Stringer("peer", k.remote), zap.Error(err))
		}
	}
	return tell(&wire.Resumed{Link: d.link})
}
