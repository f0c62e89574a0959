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
	mem, err := c.check()
	if err != nil {
		return g, err
	}
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	if l.gone || l.n.closed {
		return g, errClosed
	}
	if l.ns.IsZero() {
		return g, fmt.Errorf("nicshare: the link has its sockets: %w", unix.EBUSY)
	}
	g = Grant{
		RX: -1, TX: -1, Packet: -1, MTU: l.n.shared.MTU, MAC: l.n.mac, Virtual: l.n.shared.Virtual, LargeRx: l.n.mode == ModeGeneric,
	}
	err = l.ns.Do(func() error { return l.makeSockets(&g, &c, mem) })
	if err == nil {
		err = l.sockets.Put(uint32(0), uint32(g.RX))
	}
	if err != nil {
		return Grant{RX: -1, TX: -1, Packet: -1}, errors.Join(err, g.Close())
	}
	// From now on only the sockets hold the far end.
	l.release()
	return g, nil
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
	// Without the seals the process could take memory away while the kernel looks for
	// it, which would end this process by SIGBUS.
	const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW
	has, err := unix.FcntlInt(uintptr(c.UMEM), unix.F_GET_SEALS, 0)
	if err != nil || has&seals != seals {
		return 0, fmt.Errorf("nicshare: packet memory must be a memfd with F_SEAL_SHRINK and F_SEAL_GROW: %w", unix.EPERM)
	}
	var st unix.Stat_t
	if err := unix.Fstat(c.UMEM, &st); err != nil {
		return 0, fmt.Errorf("nicshare: packet memory: %w", err)
	}
	if st.Size <= 0 || st.Size > c.MaxBytes || st.Size%int64(c.FrameSize) != 0 {
		return 0, fmt.Errorf("nicshare: packet memory of %d bytes: whole frames, at most %d bytes: %w", st.Size, c.MaxBytes, unix.EINVAL)
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
	if err != nil || !c.Segments {
		return err
	}
	g.Packet, g.SegmentMax, err = afxdp.MakeSegmenter(l.far)
	return err
}
