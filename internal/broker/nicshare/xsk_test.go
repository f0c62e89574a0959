package nicshare

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// rings is the process's side of a Grant, with no more than the tests need: they put
// garbage in, too.
type rings struct {
	grant          Grant
	mem            []byte
	rx, fill       ring
	tx, completion ring
	filled         uint32 // frames given to receive, the first half of mem
	sent           uint32
	maps           [][]byte
	shared         []byte // the ring of the packet socket
}

const (
	frameSize = 2048
	ringSize  = 64
	frames    = 4 * ringSize // half to receive, half to send
)

// ring is one of an AF_XDP socket.
type ring struct {
	prod, cons *uint32
	base       unsafe.Pointer
}

func (r *ring) desc(i uint32) *unix.XDPDesc {
	return (*unix.XDPDesc)(unsafe.Add(r.base, uintptr(i&(ringSize-1))*unsafe.Sizeof(unix.XDPDesc{})))
}

func (r *ring) addr(i uint32, size uint32) *uint64 {
	return (*uint64)(unsafe.Add(r.base, uintptr(i&(size-1))*8))
}

// sealed makes the memory of a process.
func sealed(bytes int, seals int) (int, error) {
	fd, err := unix.MemfdCreate("umem", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, err
	}
	if err := unix.Ftruncate(fd, int64(bytes)); err != nil {
		return -1, err
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	return fd, err
}

// openRings maps what a Grant has.
func openRings(g Grant, memfd int) (r *rings, err error) {
	r = &rings{grant: g}
	if r.mem, err = unix.Mmap(memfd, 0, frames*frameSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	for _, m := range []struct {
		to   *ring
		fd   int
		page int64
		at   func(*unix.XDPMmapOffsets) unix.XDPRingOffset
	}{
		{&r.rx, g.RX, unix.XDP_PGOFF_RX_RING, func(o *unix.XDPMmapOffsets) unix.XDPRingOffset { return o.Rx }},
		{&r.fill, g.RX, unix.XDP_UMEM_PGOFF_FILL_RING, func(o *unix.XDPMmapOffsets) unix.XDPRingOffset { return o.Fr }},
		{&r.completion, g.RX, unix.XDP_UMEM_PGOFF_COMPLETION_RING, func(o *unix.XDPMmapOffsets) unix.XDPRingOffset { return o.Cr }},
		{&r.tx, g.TX, unix.XDP_PGOFF_TX_RING, func(o *unix.XDPMmapOffsets) unix.XDPRingOffset { return o.Tx }},
	} {
		var o unix.XDPMmapOffsets
		n := uint32(unsafe.Sizeof(o))
		if _, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(m.fd), unix.SOL_XDP, unix.XDP_MMAP_OFFSETS,
			uintptr(unsafe.Pointer(&o)), uintptr(unsafe.Pointer(&n)), 0); e != 0 {
			return nil, os.NewSyscallError("getsockopt", e)
		}
		off := m.at(&o)
		b, err := unix.Mmap(m.fd, m.page, int(off.Desc)+2*ringSize*8, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return nil, fmt.Errorf("mmap of ring %#x: %w", m.page, err)
		}
		r.maps = append(r.maps, b)
		m.to.prod = (*uint32)(unsafe.Pointer(&b[off.Producer]))
		m.to.cons = (*uint32)(unsafe.Pointer(&b[off.Consumer]))
		m.to.base = unsafe.Pointer(&b[off.Desc])
	}
	for range ringSize {
		r.give(uint64(r.filled) * frameSize)
	}
	return r, nil
}

// give gives the kernel a frame to receive into.
func (r *rings) give(addr uint64) {
	*r.fill.addr(r.filled, 2*ringSize) = addr &^ (frameSize - 1)
	r.filled++
	atomic.StoreUint32(r.fill.prod, r.filled)
}

// send puts a packet on the transmit ring, and has the kernel take it.
func (r *rings) send(b []byte) error {
	for r.sent-atomic.LoadUint32(r.tx.cons) >= ringSize {
		if err := r.kick(); err != nil {
			return err
		}
	}
	first := uint32(frames / 2)
	n := (len(b) + frameSize - 1) / frameSize
	for range n {
		at := uint64(first+r.sent%(frames/2)) * frameSize
		d := unix.XDPDesc{Addr: at, Len: uint32(copy(r.mem[at:at+frameSize], b))}
		if b = b[d.Len:]; len(b) > 0 {
			d.Options = unix.XDP_PKT_CONTD
		}
		*r.tx.desc(r.sent) = d
		r.sent++
	}
	atomic.StoreUint32(r.tx.prod, r.sent)
	return r.kick()
}

// kick has the kernel look at the transmit ring, and takes back what has left.
func (r *rings) kick() error {
	err := unix.Sendto(r.grant.TX, nil, unix.MSG_DONTWAIT, nil)
	atomic.StoreUint32(r.completion.cons, atomic.LoadUint32(r.completion.prod))
	switch err {
	case nil, unix.EAGAIN, unix.EBUSY, unix.ENOBUFS:
		return nil
	}
	return os.NewSyscallError("sendto", err)
}

// receive returns the packets that are there.
func (r *rings) receive() (packets [][]byte) {
	var p []byte
	c := *r.rx.cons
	for prod := atomic.LoadUint32(r.rx.prod); c != prod; c++ {
		d := *r.rx.desc(c)
		p = append(p, r.mem[d.Addr:d.Addr+uint64(d.Len)]...)
		if d.Options&unix.XDP_PKT_CONTD == 0 {
			packets = append(packets, p)
			p = nil
		}
		r.give(d.Addr)
	}
	atomic.StoreUint32(r.rx.cons, c)
	return packets
}

// segments sends a packet by the packet socket, behind a virtio_net_hdr.
func (r *rings) segments(hdr [10]byte, b []byte) error {
	return os.NewSyscallError("sendto", unix.Sendto(r.grant.Packet, append(hdr[:], b...), 0, nil))
}

// sharedAt is where a packet begins in the frame of a ring of a packet socket: behind
// struct tpacket_hdr, aligned (TPACKET_HDRLEN without the address), and a virtio_net_hdr.
const sharedAt = 32 + 10

// share sends a packet from memory that the process and the kernel share
// (PACKET_TX_RING).
func (r *rings) share(b []byte) error {
	if r.shared == nil {
		size := os.Getpagesize()
		q := unix.TpacketReq{Block_size: uint32(size), Block_nr: 1, Frame_size: uint32(size), Frame_nr: 1}
		if err := unix.SetsockoptTpacketReq(r.grant.Packet, unix.SOL_PACKET, unix.PACKET_TX_RING, &q); err != nil {
			return os.NewSyscallError("setsockopt PACKET_TX_RING", err)
		}
		m, err := unix.Mmap(r.grant.Packet, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
		if err != nil {
			return os.NewSyscallError("mmap", err)
		}
		r.shared = m
	}
	n := copy(r.shared[sharedAt:], b)
	h := (*struct {
		status uint64
		length uint32
	})(unsafe.Pointer(&r.shared[0]))
	h.length = uint32(n) + 10
	atomic.StoreUint64(&h.status, unix.TP_STATUS_SEND_REQUEST)
	return os.NewSyscallError("sendto", unix.Sendto(r.grant.Packet, nil, 0, nil))
}
