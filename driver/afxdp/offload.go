package afxdp

import (
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ring"
)

// Offloads says which work is left to the device.
type Offloads int

const (
	// OffloadsAuto uses everything that the device offers; Caps shows it.
	OffloadsAuto Offloads = iota
	// OffloadsOff leaves it nothing: packets are sent frame by frame, with their
	// checksums.
	OffloadsOff
	// OffloadsChecksum leaves it checksums, but sends frame by frame.
	OffloadsChecksum
)

// lane sends the packets that the device segments, since an AF_XDP socket takes
// only frames of the MTU. It is a packet socket on the same interface, which
// receives nothing. The kernel copies a packet during the call. If both ends are on
// this machine, the peer takes the packet whole.
type lane struct {
	fd    int
	hdr   [vnetHdrLen]byte
	iov   [1 + laneFrags]unix.Iovec
	msg   unix.Msghdr
	fails int // calls in a row that found no room
}

const (
	vnetHdrLen = 10 // struct virtio_net_hdr

	// laneFrags is the most frames of a packet: 64 KiB in frames that carry one
	// segment of Ethernet's MTU each, and a few more.
	laneFrags = 48

	// laneTries is the number of calls in a row that may find no room before the
	// packet is dropped, like one that a NIC sends to a dead wire. veth gives the
	// same answer whether its peer's queue is full or its peer is down.
	laneTries = 64

	// lanePacket is the largest packet of a link that does not report one.
	lanePacket = 65536
)

// errNoLane is the reason why the device segments nothing, or nil.
func (l *linkInfo) errNoLane() error {
	switch {
	case !l.virtual():
		return fmt.Errorf("%s is no virtual link", l.driver)
	case !l.ethernet:
		return errors.New("no Ethernet link")
	case l.tx > 1:
		// The kernel would choose the queue, and one flow use two.
		return fmt.Errorf("the link has %d transmit queues, offload works with one (ip link add ... numtxqueues 1)", l.tx)
	case l.segmentSize() < 2*l.mtu:
		return fmt.Errorf("packets of at most %d bytes", l.gsoMax)
	}
	return nil
}

// segmentSize is the largest IP packet that is segmented. The kernel counts the
// Ethernet header, and the packet must stay below its limit.
func (l *linkInfo) segmentSize() int { return min(l.gsoMax, lanePacket) - 1 - maxL2 }

// openLane opens the packet socket, with a send buffer of that size.
func openLane(l *linkInfo, sndbuf int) (_ *lane, err error) {
	// Protocol 0: no packet is delivered to it.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, denied("socket(AF_PACKET)", err, unix.CAP_NET_RAW)
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
		return nil, fmt.Errorf("afxdp: PACKET_VNET_HDR: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: l.index}); err != nil {
		return nil, fmt.Errorf("afxdp: bind of the packet socket: %w", err)
	}
	setSndbuf(fd, sndbuf)
	return newLane(fd), nil
}

// newLane is a lane over a packet socket.
func newLane(fd int) *lane {
	n := &lane{fd: fd}
	n.msg.Iov = &n.iov[0]
	n.iov[0].Base, n.iov[0].Len = &n.hdr[0], vnetHdrLen
	return n
}

// prepare describes pkt to the kernel. It returns false if the packet cannot be
// sent: it is to be segmented, but is no TCP packet.
func (n *lane) prepare(a *ring.Arena, pkt []ring.Desc) bool {
	d, h := &pkt[0], &n.hdr
	switch {
	case d.Flags&ring.FlagGSO != 0:
		if !n.segments(pkt) {
			return false
		}
	case d.Flags&ring.FlagCsumPartial != 0:
		*h = [vnetHdrLen]byte{unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, unix.VIRTIO_NET_HDR_GSO_NONE}
		native.PutUint16(h[6:], d.CsumStart)
		native.PutUint16(h[8:], d.CsumOff)
	default:
		*h = [vnetHdrLen]byte{}
	}
	for i := range pkt {
		n.iov[1+i].Base = &a.Data(pkt[i])[0]
		n.iov[1+i].SetLen(int(pkt[i].Len))
	}
	n.msg.SetIovlen(1 + len(pkt))
	return true
}

// segments has the kernel cut pkt. It returns false if pkt is no TCP packet that
// can be cut.
func (n *lane) segments(pkt []ring.Desc) bool {
	d := &pkt[0]
	if len(pkt) > laneFrags || d.Flags&ring.FlagCsumPartial == 0 || d.SegSize == 0 || d.CsumOff != driver.TCPChecksum ||
		int(d.HdrLen) < int(d.CsumStart)+driver.TCPHeaderLen || d.HdrLen > d.Len {
		return false
	}
	gso := byte(unix.VIRTIO_NET_HDR_GSO_TCPV4)
	if d.Flags&ring.FlagV6 != 0 {
		gso = unix.VIRTIO_NET_HDR_GSO_TCPV6
	}
	if d.Flags&ring.FlagCWR != 0 {
		gso |= unix.VIRTIO_NET_HDR_GSO_ECN // of the first segment only
	}
	h := &n.hdr
	h[0], h[1] = unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, gso
	native.PutUint16(h[2:], d.HdrLen)
	native.PutUint16(h[4:], d.SegSize)
	native.PutUint16(h[6:], d.CsumStart)
	native.PutUint16(h[8:], d.CsumOff)
	return true
}

// txSegment sends a packet that the device segments, behind everything on the ring.
// If there is no room it does nothing and returns false.
func (q *Queue) txSegment(pkt []ring.Desc, bytes int) bool {
	n := q.lane
	if n == nil || !n.prepare(q.arena, pkt) {
		q.stats.txInvalid.Add(1)
		return true
	}
	if q.txProd != atomic.LoadUint32(q.tx.cons) {
		if q.Kick() != nil {
			return false
		}
		q.Reclaim()
	}
	e := sendMsg(n.fd, &n.msg)
	q.stats.kicks.Add(1)
	switch e {
	case 0:
		n.fails = 0
		q.stats.txPackets.Add(1)
		q.stats.txBytes.Add(uint64(bytes))
		return true
	case unix.EAGAIN, unix.ENOBUFS, unix.EINTR, unix.ENOMEM:
		if n.fails++; n.fails < laneTries {
			q.stats.txRefused.Add(1)
			return false
		}
	}
	// The packet is lost, and TCP retransmits it.
	q.stats.kickErrors.Add(1)
	return true
}
