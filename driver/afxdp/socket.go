package afxdp

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// bindMode is one way to bind the sockets of a device.
type bindMode struct {
	zeroCopy, frags bool
}

func (m bindMode) flags() uint16 {
	f := uint16(unix.XDP_USE_NEED_WAKEUP | unix.XDP_COPY)
	if m.zeroCopy {
		f = unix.XDP_USE_NEED_WAKEUP | unix.XDP_ZEROCOPY
	}
	if m.frags {
		f |= unix.XDP_USE_SG
	}
	return f
}

func (m bindMode) String() string {
	s := "copy"
	if m.zeroCopy {
		s = "zero-copy"
	}
	if !m.frags {
		s += " without multi-buffer"
	}
	return s
}

// bindModes lists the ways to try, best first. Packets of several Descs come before
// zero-copy: without them a packet of the link's MTU may not fit into one frame,
// while zero-copy only saves a copy.
func bindModes(c *Config, l *linkInfo, native bool) (ms []bindMode) {
	zc := native && c.ZeroCopy != ZeroCopyOff && !(l.known && l.features&actZeroCopy == 0)
	if zc || c.ZeroCopy == ZeroCopyRequire {
		ms = append(ms, bindMode{zeroCopy: true, frags: true})
		if l.mtu+maxL2 <= c.FrameSize-rxHeadroom {
			ms = append(ms, bindMode{zeroCopy: true})
		}
	}
	if c.ZeroCopy != ZeroCopyRequire {
		ms = append(ms, bindMode{frags: true}, bindMode{})
	}
	return ms
}

// A queue is EBUSY for 14 to 22 ms after its last socket was closed, longer on a
// busy machine, since the kernel frees the pool after a grace period. If no process
// seems to have the queue, we wait longer.
const (
	busyWait = time.Second
	goneWait = 10 * time.Second
	busyStep = 2 * time.Millisecond
)

// openSocket makes and binds the AF_XDP socket of q. It shares the UMEM of the
// socket share, which is nil for the first. It waits for a busy queue until ctx ends.
func openSocket(ctx context.Context, q *Queue, c *Config, l *linkInfo, m bindMode, share *Queue) (err error) {
	q.fd, err = unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		q.fd = -1
		if errors.Is(err, unix.EAFNOSUPPORT) {
			return fmt.Errorf("afxdp: this kernel has no AF_XDP (CONFIG_XDP_SOCKETS): %w", err)
		}
		return denied("socket(AF_XDP)", err, unix.CAP_NET_RAW)
	}
	defer func() {
		if err != nil {
			_ = q.closeSocket()
			unmap(q.mems())
		}
	}()
	if share == nil {
		if err := q.register(l, c, m); err != nil {
			if errors.Is(err, unix.ENOBUFS) {
				return &lockError{Bytes: len(q.arena.Mem()), Err: err}
			}
			return denied("XDP_UMEM_REG", err, unix.CAP_IPC_LOCK)
		}
	}
	tx := q.id < l.tx
	if err := q.makeRings(c); err != nil {
		return err
	}
	flags, fd := m.flags(), -1
	if share != nil {
		flags, fd = unix.XDP_SHARED_UMEM, share.fd
	}
	if err := bindFree(ctx, q, l, flags, fd); err != nil {
		var busy *QueueError
		if errors.As(err, &busy) {
			return err
		}
		return denied(fmt.Sprintf("bind of queue %d of %s, %s", q.id, l.name, m), err, unix.CAP_NET_RAW)
	}
	opts, err := xdpOptions(q.fd)
	if err != nil {
		return fmt.Errorf("afxdp: XDP_OPTIONS: %w", err)
	}
	q.zc = opts&unix.XDP_OPTIONS_ZEROCOPY != 0
	if tx {
		if err := q.openTx(c, l); err != nil {
			return err
		}
	}
	q.tune(c, l)
	return q.makeEpoll()
}

// bindFree binds, and waits for a queue that is about to be free, until ctx ends.
func bindFree(ctx context.Context, q *Queue, l *linkInfo, flags uint16, share int) error {
	start := time.Now()
	for wait := busyWait; ; {
		err := bindXDP(q.fd, l.index, q.id, flags, share)
		if err != unix.EBUSY {
			return err
		}
		if time.Since(start) < wait {
			select {
			case <-ctx.Done():
				if errors.Is(ctx.Err(), context.Canceled) {
					return ctx.Err()
				}
				return busyQueue(l, q.id)
			case <-time.After(busyStep):
			}
			continue
		}
		busy := busyQueue(l, q.id)
		if (holder{busy.PID, busy.Process}).lives() || wait == goneWait {
			return busy
		}
		wait = goneWait
	}
}

// openTx makes the socket that only transmits. The kernel reports a socket as
// writable after each packet that left, to everybody who waits on it. With a socket
// of its own for sending, that wakes nobody who waits for packets.
func (q *Queue) openTx(c *Config, l *linkInfo) (err error) {
	if q.txFD, err = unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
		q.txFD = -1
		return denied("socket(AF_XDP)", err, unix.CAP_NET_RAW)
	}
	if err := setXDPInt(q.txFD, unix.XDP_TX_RING, uint32(c.TxRing)); err != nil {
		return fmt.Errorf("afxdp: ring of %d entries: %w", c.TxRing, err)
	}
	if err := q.mapTx(c); err != nil {
		return err
	}
	if err := bindXDP(q.txFD, l.index, q.id, unix.XDP_SHARED_UMEM, q.fd); err != nil {
		return denied(fmt.Sprintf("bind of queue %d of %s, to transmit", q.id, l.name), err, unix.CAP_NET_RAW)
	}
	return nil
}

// mapTx maps the ring of the transmitting socket.
func (q *Queue) mapTx(c *Config) error {
	off, err := mmapOffsets(q.txFD)
	if err != nil {
		return fmt.Errorf("afxdp: XDP_MMAP_OFFSETS: %w", err)
	}
	if q.tx, err = mapRing[unix.XDPDesc](q.txFD, off.Tx, c.TxRing, unix.XDP_PGOFF_TX_RING); err != nil {
		return fmt.Errorf("afxdp: %w", err)
	}
	q.txSize = c.TxRing
	return nil
}

// fillRing is how many entries the fill ring has, beside a receive ring of that many.
func fillRing(rx int) int { return 2 * rx }

// sizeRings makes the rings of a receiving socket.
func sizeRings(fd, rx, tx int) error {
	for _, s := range [...]struct{ opt, n int }{
		{unix.XDP_UMEM_FILL_RING, fillRing(rx)},
		{unix.XDP_UMEM_COMPLETION_RING, tx},
		{unix.XDP_RX_RING, rx},
	} {
		if err := setXDPInt(fd, s.opt, uint32(s.n)); err != nil {
			return fmt.Errorf("afxdp: ring of %d entries: %w", s.n, err)
		}
	}
	return nil
}

// makeRings sizes and maps the rings of the receiving socket.
func (q *Queue) makeRings(c *Config) error {
	if err := sizeRings(q.fd, c.RxRing, c.TxRing); err != nil {
		return err
	}
	return q.mapRings(c)
}

// mapRings maps the rings of the receiving socket.
func (q *Queue) mapRings(c *Config) error {
	off, err := mmapOffsets(q.fd)
	if err != nil {
		return fmt.Errorf("afxdp: XDP_MMAP_OFFSETS: %w", err)
	}
	if q.rx, err = mapRing[unix.XDPDesc](q.fd, off.Rx, c.RxRing, unix.XDP_PGOFF_RX_RING); err != nil {
		return fmt.Errorf("afxdp: %w", err)
	}
	if q.fill, err = mapRing[uint64](q.fd, off.Fr, fillRing(c.RxRing), unix.XDP_UMEM_PGOFF_FILL_RING); err != nil {
		return fmt.Errorf("afxdp: %w", err)
	}
	if q.comp, err = mapRing[uint64](q.fd, off.Cr, c.TxRing, unix.XDP_UMEM_PGOFF_COMPLETION_RING); err != nil {
		return fmt.Errorf("afxdp: %w", err)
	}
	return nil
}

// sndbuf is large enough for a whole ring of packets under way: the kernel
// charges its copies to the socket.
const sndbuf = 64 << 20

func setSndbuf(fd, bytes int) {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, bytes) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, bytes)
	}
}

// tune sets options that make the socket faster. Nothing is lost if the kernel
// refuses them.
func (q *Queue) tune(c *Config, l *linkInfo) {
	if q.txSize > 0 {
		setSndbuf(q.txFD, sndbuf)
		if c.TxBudget > 0 {
			_ = setXDPInt(q.txFD, unix.XDP_MAX_TX_SKB_BUDGET, uint32(max(c.TxBudget, 32)))
		}
	}
	// Without a NAPI id there is nothing to poll, and the options would only
	// hold back interrupts; on a virtual link the sender polls.
	if l.virtual() {
		return
	}
	id, err := unix.GetsockoptInt(q.fd, unix.SOL_SOCKET, unix.SO_INCOMING_NAPI_ID)
	if err != nil || id == 0 {
		return
	}
	q.napi = uint32(id)
	if c.BusyPoll == 0 || c.NAPI == NAPIThread {
		return
	}
	q.busyPoll = setBusyPoll(q.fd, c.BusyPoll)
	// With busy polling, a call to transmit polls instead of waking the driver. If
	// another NAPI instance transmits (virtio_net, gve), nothing would leave.
	if q.busyPoll && q.txSize > 0 && transmits(l.index, q.id, q.napi) {
		setBusyPoll(q.txFD, c.BusyPoll)
	}
}

func setBusyPoll(fd, budget int) bool {
	const pollMicros = 20
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PREFER_BUSY_POLL, 1) == nil &&
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUSY_POLL, pollMicros) == nil &&
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUSY_POLL_BUDGET, budget) == nil
}

// makeEpoll makes WaitFD: an epoll descriptor. Arm puts the socket in.
func (q *Queue) makeEpoll() (err error) {
	if q.ep, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		q.ep = -1
		return os.NewSyscallError("epoll_create1", err)
	}
	if err := unix.SetNonblock(q.ep, true); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	return nil
}

// closeSocket gives up descriptors and rings. A goroutine that still looks at
// RxPending finds an empty ring.
func (q *Queue) closeSocket() error {
	q.fdMu.Lock()
	defer q.fdMu.Unlock()
	if q.fd < 0 {
		return nil
	}
	q.last = q.kernelStats()
	errs := []error{q.rx.detach(), q.tx.detach(), q.fill.detach(), q.comp.detach()}
	if q.ep >= 0 {
		errs = append(errs, unix.Close(q.ep))
	}
	if q.txFD >= 0 {
		errs = append(errs, unix.Close(q.txFD))
	}
	if q.lane != nil {
		errs = append(errs, unix.Close(q.lane.fd))
		q.lane = nil
	}
	errs = append(errs, unix.Close(q.fd))
	q.fd, q.txFD, q.ep = -1, -1, -1
	return errors.Join(errs...)
}

func (q *Queue) mems() [4][]byte {
	return [4][]byte{q.rx.mem, q.tx.mem, q.fill.mem, q.comp.mem}
}

// unmap frees the address space of rings; nobody looks at them any more.
func unmap(mems [4][]byte) {
	for _, m := range mems {
		if m != nil {
			_ = unix.Munmap(m)
		}
	}
}

// rxHeadroom is what the kernel leaves in front of received data.
const rxHeadroom = unix.XDP_PACKET_HEADROOM

// maxL2 is an Ethernet header with two VLAN tags.
const maxL2 = 22

// maxFrags is the most Descs that the kernel takes for one packet.
func maxFrags(l *linkInfo, m bindMode) int {
	// MAX_SKB_FRAGS in the kernel's default configuration, its smallest value.
	const skbFrags = 17
	switch {
	case !m.frags:
		return 1
	case m.zeroCopy:
		return l.zcSegs
	case l.driver == "virtio_net":
		// Takes packets without a linear part (IFF_TX_SKB_NO_LINEAR).
		return skbFrags
	}
	return skbFrags + 1 // the first Desc becomes the linear part
}
