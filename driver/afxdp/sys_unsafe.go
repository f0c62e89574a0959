package afxdp

import (
	"fmt"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// All of the package's unsafe code is here: rings mapped from the kernel, and
// system calls that take structs. Calls that never block are raw.

// kring is a ring shared with the kernel. The side that we own moves by a
// release store, the other side's index is read by an acquire load.
type kring[T any] struct {
	prod, cons, flags *uint32
	slots             []T
	mask              uint32
	mem               []byte
}

// mapRing maps a ring of n slots (a power of two) of socket fd.
func mapRing[T any](fd int, off unix.XDPRingOffset, n int, page int64) (r kring[T], err error) {
	var slot T
	size := int(off.Desc) + n*int(unsafe.Sizeof(slot))
	r.mem, err = unix.Mmap(fd, page, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return r, fmt.Errorf("mmap of ring %#x: %w", page, err)
	}
	r.prod = (*uint32)(unsafe.Pointer(&r.mem[off.Producer]))
	r.cons = (*uint32)(unsafe.Pointer(&r.mem[off.Consumer]))
	r.flags = (*uint32)(unsafe.Pointer(&r.mem[off.Flags]))
	r.slots = unsafe.Slice((*T)(unsafe.Pointer(&r.mem[off.Desc])), n)
	r.mask = uint32(n - 1)
	return r, nil
}

func (r *kring[T]) needWakeup() bool {
	return atomic.LoadUint32(r.flags)&unix.XDP_RING_NEED_WAKEUP != 0
}

// detach puts empty memory in the ring's place: the kernel's ring is released
// at once, and a goroutine that still looks reads zeros instead of faulting.
func (r *kring[T]) detach() error {
	if r.mem == nil {
		return nil
	}
	_, _, e := unix.RawSyscall6(unix.SYS_MMAP, uintptr(unsafe.Pointer(&r.mem[0])), uintptr(len(r.mem)),
		unix.PROT_READ|unix.PROT_WRITE, unix.MAP_FIXED|unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uintptr(0), 0)
	if e != 0 {
		return fmt.Errorf("mmap over ring: %w", e)
	}
	return nil
}

func setXDP(fd, opt int, p unsafe.Pointer, size uintptr) error {
	_, _, e := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(opt), uintptr(p), size, 0)
	if e != 0 {
		return e
	}
	return nil
}

func getXDP(fd, opt int, p unsafe.Pointer, size uintptr) error {
	n := uint32(size)
	_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(opt), uintptr(p), uintptr(unsafe.Pointer(&n)), 0)
	if e != 0 {
		return e
	}
	return nil
}

func setXDPInt(fd, opt int, v uint32) error { return setXDP(fd, opt, unsafe.Pointer(&v), 4) }

// registerUMEM: meta is the bytes in front of each packet for the kernel.
func registerUMEM(fd int, mem []byte, frameSize, meta int) error {
	reg := unix.XDPUmemReg{
		Addr: uint64(uintptr(unsafe.Pointer(&mem[0]))),
		Len:  uint64(len(mem)),
		Size: uint32(frameSize),
	}
	if meta > 0 {
		reg.Flags, reg.Tx_metadata_len = unix.XDP_UMEM_TX_METADATA_LEN, uint32(meta)
	}
	return setXDP(fd, unix.XDP_UMEM_REG, unsafe.Pointer(&reg), unsafe.Sizeof(reg))
}

func mmapOffsets(fd int) (o unix.XDPMmapOffsets, err error) {
	err = getXDP(fd, unix.XDP_MMAP_OFFSETS, unsafe.Pointer(&o), unsafe.Sizeof(o))
	return o, err
}

func xdpStatistics(fd int) (s unix.XDPStatistics, err error) {
	err = getXDP(fd, unix.XDP_STATISTICS, unsafe.Pointer(&s), unsafe.Sizeof(s))
	return s, err
}

func xdpOptions(fd int) (flags uint32, err error) {
	err = getXDP(fd, unix.XDP_OPTIONS, unsafe.Pointer(&flags), 4)
	return flags, err
}

func bindXDP(fd, ifindex, queue int, flags uint16, share int) error {
	sa := unix.RawSockaddrXDP{Family: unix.AF_XDP, Flags: flags, Ifindex: uint32(ifindex), Queue_id: uint32(queue)}
	if share >= 0 {
		sa.Shared_umem_fd = uint32(share)
	}
	_, _, e := unix.Syscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
	if e != 0 {
		return e
	}
	return nil
}

// sendKick makes the kernel look at the transmit ring.
func sendKick(fd int) unix.Errno {
	_, _, e := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
	return e
}

// recvKick makes the kernel look at the fill ring, and polls the NIC where
// busy polling is on.
func recvKick(fd int) unix.Errno {
	_, _, e := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), 0, 0, unix.MSG_DONTWAIT, 0, 0)
	return e
}

// sendMsg sends the data that m names, all of it at once.
func sendMsg(fd int, m *unix.Msghdr) unix.Errno {
	_, _, e := unix.RawSyscall(unix.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(m)), unix.MSG_DONTWAIT)
	return e
}

// epollCtl changes what epoll descriptor ep waits for on fd. ev is the
// caller's, so that nothing is allocated.
func epollCtl(ep, op, fd int, ev *unix.EpollEvent) unix.Errno {
	_, _, e := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(ep), uintptr(op), uintptr(fd), uintptr(unsafe.Pointer(ev)), 0, 0)
	return e
}

// ethtool does one SIOCETHTOOL request; p points to the request's struct.
func ethtool(fd int, name string, p unsafe.Pointer) error {
	var req struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(req.name[:unix.IFNAMSIZ-1], name)
	req.data = p
	_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
	if e != 0 {
		return e
	}
	return nil
}

// ethtoolFlag makes one of the requests that ask for a yes or no.
func ethtoolFlag(fd int, name string, cmd uint32) bool {
	v := struct{ cmd, data uint32 }{cmd: cmd}
	return ethtool(fd, name, unsafe.Pointer(&v)) == nil && v.data != 0
}

// channels returns the number of receive and transmit queues in use.
func channels(fd int, name string) (rx, tx int, err error) {
	var c struct {
		cmd                             uint32
		maxRx, maxTx, maxOther, maxComb uint32
		rx, tx, other, combined         uint32
	}
	c.cmd = unix.ETHTOOL_GCHANNELS
	if err := ethtool(fd, name, unsafe.Pointer(&c)); err != nil {
		return 0, 0, err
	}
	return int(c.rx + c.combined), int(c.tx + c.combined), nil
}

// rss returns the NIC's hash key and indirection table.
func rss(fd int, name string) (key []byte, table []uint32, err error) {
	// struct ethtool_rxfh, followed by the table and the key.
	const head = 6
	req := make([]uint32, head)
	req[0] = unix.ETHTOOL_GRSSH
	if err := ethtool(fd, name, unsafe.Pointer(&req[0])); err != nil {
		return nil, nil, err
	}
	entries, keyLen := int(req[2]), int(req[3])
	if entries < 0 || keyLen < 0 || entries > 1<<16 || keyLen > 1<<12 {
		return nil, nil, unix.EOVERFLOW
	}
	req = make([]uint32, head+entries+(keyLen+3)/4)
	req[0], req[2], req[3] = unix.ETHTOOL_GRSSH, uint32(entries), uint32(keyLen)
	if err := ethtool(fd, name, unsafe.Pointer(&req[0])); err != nil {
		return nil, nil, err
	}
	if f := *(*byte)(unsafe.Pointer(&req[4])); f != 0 && f&1 == 0 {
		return nil, nil, unix.EOPNOTSUPP // not Toeplitz
	}
	if entries > 0 {
		table = req[head : head+entries : head+entries]
	}
	if keyLen > 0 {
		key = unsafe.Slice((*byte)(unsafe.Pointer(&req[head+entries])), keyLen)
	}
	return key, table, nil
}
