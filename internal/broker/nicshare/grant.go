package nicshare

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver/afxdp"
)

// Grant makes the sockets of the process. It can be called once, and only by the
// process that made the link. EPERM and EINVAL say what is wrong with the memory.
func (l *Link) Grant(c GrantConfig) (g Grant, err error) {
	// In case of an error, too: Close of a Grant may not close descriptor 0.
	g = Grant{RX: -1, TX: -1, Packet: -1}
	mem, err := c.check()
	if err != nil {
		return g, err
	}
	made, err := l.take(&g)
	if err != nil {
		return g, err
	}
	// Without the lock: the kernel pins all of the memory, and other processes' ports would
	// have to wait for it.
	err = made.ns.Do(func() error { return l.makeSockets(&g, &c, mem) })
	if err == nil {
		err = made.sockets.Put(uint32(0), uint32(g.RX))
	}
	if err == nil {
		l.memory = mem
		err = l.n.memory.Put(uint32(l.id), mem)
	}
	if err != nil {
		l.giveBack(made)
		return Grant{RX: -1, TX: -1, Packet: -1}, errors.Join(err, g.Close())
	}
	// From now on only the sockets hold the far end.
	made.release()
	return g, nil
}

// giveBack is for another Grant, after one that has failed.
func (l *Link) giveBack(made farEnd) {
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	if l.gone || l.n.closed {
		made.release()
		return
	}
	l.made = made
}

// take returns what Grant needs of the link, which is Grant's until giveBack.
func (l *Link) take(g *Grant) (made farEnd, err error) {
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	if l.gone || l.n.closed {
		return made, errClosed
	}
	if l.made.ns.IsZero() {
		return made, fmt.Errorf("nicshare: the link has its sockets: %w", unix.EBUSY)
	}
	g.MTU, g.MAC, g.Virtual, g.LargeRx = l.n.shared.MTU, l.n.mac, l.n.shared.Virtual, l.n.mode == ModeGeneric
	made, l.made = l.made, farEnd{}
	return made, nil
}

// check checks the memory, and returns its size.
func (c *GrantConfig) check() (size int64, err error) {
	if c.FrameSize != 2048 && c.FrameSize != 4096 {
		return 0, fmt.Errorf("nicshare: frames of %d bytes: 2048 or 4096: %w", c.FrameSize, unix.EINVAL)
	}
	for _, r := range []int{c.RxRing, c.TxRing} {
		if r < minRing || r > maxRing || r&(r-1) != 0 {
			return 0, fmt.Errorf("nicshare: ring of %d entries: a power of two, %d to %d: %w", r, minRing, maxRing, unix.EINVAL)
		}
	}
	if size, err = MemorySize(c.UMEM); err != nil {
		return 0, err
	}
	if size <= 0 || size > c.MaxBytes || size%int64(c.FrameSize) != 0 {
		return 0, fmt.Errorf("nicshare: packet memory of %d bytes: whole frames, at most %d bytes: %w", size, c.MaxBytes, unix.EINVAL)
	}
	return size, nil
}

// MemorySize returns the size of packet memory, which cannot change any more. The error is
// EPERM if umem is no memfd with the seals. They are asked for first: without them the size
// may be another one in a moment, and what is no memfd may have a file system behind it that
// answers fstat(2) when its owner likes (FUSE).
func MemorySize(umem int) (int64, error) {
	// Without the seals the process could take memory away while the kernel looks for
	// it, which would end this process by SIGBUS.
	const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW
	has, err := unix.FcntlInt(uintptr(umem), unix.F_GET_SEALS, 0)
	if err != nil || has&seals != seals {
		return 0, fmt.Errorf("nicshare: packet memory must be a memfd with F_SEAL_SHRINK and F_SEAL_GROW: %w", unix.EPERM)
	}
	var st unix.Stat_t
	if err := unix.Fstat(umem, &st); err != nil {
		return 0, fmt.Errorf("nicshare: packet memory: %w", err)
	}
	return st.Size, nil
}

const (
	minRing = 16
	maxRing = 1 << 16
)

// makeSockets makes the sockets. It runs in the far end's namespace.
func (l *Link) makeSockets(g *Grant, c *GrantConfig, size int64) error {
	// Only for the registration: what maps the memory or a ring of a socket keeps the
	// link.
	mem, err := unix.Mmap(c.UMEM, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("nicshare: mmap of packet memory: %w", err)
	}
	s, err := afxdp.MakeSockets(mem, c.FrameSize, c.RxRing, c.TxRing, l.far)
	if e := unix.Munmap(mem); err == nil {
		err = e
	}
	g.RX, g.TX = s.RX, s.TX
	if err != nil || !c.Segments || l.n.guard == nil && !mayHaveRings(c.Trusted) {
		return err
	}
	if g.Packet, g.SegmentMax, err = afxdp.MakeSegmenter(l.far); err != nil {
		return err
	}
	return mark(g.Packet)
}
