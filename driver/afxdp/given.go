package afxdp

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Sockets are the descriptors of a queue, which one process makes for another.
type Sockets struct {
	RX int // has the memory, and the fill, completion and receive ring
	TX int // has the transmit ring
}

// MakeSockets makes sockets over mem for queue 0 of the interface with that index, in
// copy mode and without mapping a ring. It runs in the interface's namespace.
// RxRing and txRing are as in Config. If it fails, the caller closes what is not -1.
func MakeSockets(mem []byte, frameSize, rxRing, txRing, ifindex int) (s Sockets, err error) {
	s = Sockets{-1, -1}
	for _, fd := range []*int{&s.RX, &s.TX} {
		if *fd, err = unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			*fd = -1
			return s, denied("socket(AF_XDP)", err, unix.CAP_NET_RAW)
		}
	}
	// No room for metadata: by it the process could have a checksum written anywhere.
	if err := registerUMEM(s.RX, mem, frameSize, 0); err != nil {
		return s, denied("XDP_UMEM_REG", err, unix.CAP_IPC_LOCK)
	}
	if err := sizeRings(s.RX, rxRing, txRing); err != nil {
		return s, err
	}
	if err := bindXDP(s.RX, ifindex, 0, bindMode{frags: true}.flags(), -1); err != nil {
		return s, fmt.Errorf("afxdp: bind: %w", err)
	}
	if err := setXDPInt(s.TX, unix.XDP_TX_RING, uint32(txRing)); err != nil {
		return s, fmt.Errorf("afxdp: ring of %d entries: %w", txRing, err)
	}
	if err := bindXDP(s.TX, ifindex, 0, unix.XDP_SHARED_UMEM, s.RX); err != nil {
		return s, fmt.Errorf("afxdp: bind, to transmit: %w", err)
	}
	setSndbuf(s.TX, sndbuf)
	_ = setXDPInt(s.TX, unix.XDP_MAX_TX_SKB_BUDGET, uint32(min(DefaultTxBudget, txRing)))
	return s, nil
}

// MakeSegmenter makes the socket for packets that the kernel is to segment, and
// returns it with the largest packet that it takes, in bytes of IP. It runs in the
// interface's namespace.
func MakeSegmenter(ifindex int) (fd, most int, err error) {
	l, err := lookupLink(fmt.Sprint(ifindex))
	if err != nil {
		return -1, 0, fmt.Errorf("afxdp: %w", err)
	}
	n, err := openLane(l, sndbuf)
	if err != nil {
		return -1, 0, err
	}
	return n.fd, l.segmentSize(), nil
}
