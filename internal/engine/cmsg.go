package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/udp"
)

// ancillary writes control messages (cmsg(3)), as the kernel's put_cmsg does.
type ancillary struct {
	b     []byte
	n     int // bytes written
	flags int // MSG_CTRUNC: not all had room
	waste [48]byte
}

// put appends a message and returns its data, of size bytes, to be filled in. Of
// one that has no room only the header is written, or nothing.
func (a *ancillary) put(level, typ, size int) (data []byte) {
	room := len(a.b) - a.n
	n := unix.CmsgLen(size)
	data = a.waste[:size]
	if n > room {
		a.flags |= unix.MSG_CTRUNC
		if n = room; room < unix.SizeofCmsghdr {
			return data
		}
	}
	h := a.b[a.n:][:n]
	clear(h)
	if unix.SizeofCmsghdr == 16 {
		binary.NativeEndian.PutUint64(h, uint64(n))
	} else {
		putInt(h, n)
	}
	putInt(h[unix.SizeofCmsghdr-8:], level)
	putInt(h[unix.SizeofCmsghdr-4:], typ)
	a.n += min(unix.CmsgSpace(size), room)
	if n == unix.CmsgLen(size) {
		data = h[unix.CmsgLen(0):]
	}
	return data
}

func putInt(b []byte, v int) { binary.NativeEndian.PutUint32(b, uint32(v)) }

func (a *ancillary) putInt(level, typ, v int) {
	putInt(a.put(level, typ, 4), v)
}

// Describe writes to oob the control messages of a datagram that s received, those
// that recv asks for, and returns their length and the flags of recvmsg(2). six: as on
// an IPv6 socket.
func Describe(s *stack.UDPConn, oob []byte, recv Recv, six bool, info *udp.Info) (oobn, flags int) {
	a := ancillary{b: oob}
	a.describe(s, recv, six, info)
	return a.n, a.flags
}

// describe writes the messages in the order of the kernel's.
func (a *ancillary) describe(s *stack.UDPConn, recv Recv, six bool, info *udp.Info) {
	if recv&(RecvTimestamp|RecvTimestampNS|RecvTimestamping) != 0 {
		a.putTimes(recv, time.Now().Add(-s.Age(info.At)))
	}
	if recv&RecvDrops != 0 {
		d := s.Drops()
		if n := d.Buffer + d.Memory; n > 0 { // asking for the losses of the kernel's half is a system call
			a.putInt(unix.SOL_SOCKET, unix.SO_RXQ_OVFL, int(uint32(n)))
		}
	}
	if info.Seg > 0 {
		a.putInt(unix.SOL_UDP, unix.UDP_GRO, info.Seg)
	}
	dst := info.Dst.Addr()
	if recv&RecvPktInfo6 != 0 && six {
		b := a.put(unix.SOL_IPV6, unix.IPV6_PKTINFO, 20)
		addr := dst.As16()
		copy(b, addr[:])
		putInt(b[16:], int(info.Link))
	}
	if info.Src.Addr().Is4() {
		describe4(a, recv, info)
		return
	}
	if recv&RecvHopLimit != 0 {
		a.putInt(unix.SOL_IPV6, unix.IPV6_HOPLIMIT, int(info.TTL))
	}
	if recv&RecvTClass != 0 {
		a.putInt(unix.SOL_IPV6, unix.IPV6_TCLASS, int(info.TOS))
	}
	if recv&RecvOrigDst6 != 0 {
		b := a.put(unix.SOL_IPV6, unix.IPV6_ORIGDSTADDR, unix.SizeofSockaddrInet6)
		binary.NativeEndian.PutUint16(b, unix.AF_INET6)
		binary.BigEndian.PutUint16(b[2:], info.Dst.Port())
		addr := dst.As16()
		copy(b[8:], addr[:])
	}
}

// describe4 writes the messages of IPv4.
func describe4(a *ancillary, recv Recv, info *udp.Info) {
	var dst [4]byte
	if info.Dst.Addr().Is4() {
		dst = info.Dst.Addr().As4()
	}
	if recv&RecvPktInfo != 0 {
		b := a.put(unix.SOL_IP, unix.IP_PKTINFO, 12)
		putInt(b, int(info.Link))
		copy(b[4:], dst[:]) // ipi_spec_dst: the address to answer from
		copy(b[8:], dst[:])
	}
	if recv&RecvTTL != 0 {
		a.putInt(unix.SOL_IP, unix.IP_TTL, int(info.TTL))
	}
	if recv&RecvTOS != 0 {
		a.put(unix.SOL_IP, unix.IP_TOS, 1)[0] = info.TOS
	}
	if recv&RecvOrigDst != 0 {
		b := a.put(unix.SOL_IP, unix.IP_ORIGDSTADDR, unix.SizeofSockaddrInet4)
		binary.NativeEndian.PutUint16(b, unix.AF_INET)
		binary.BigEndian.PutUint16(b[2:], info.Dst.Port())
		copy(b[4:], dst[:])
	}
}

// putTimes writes when a datagram was received, as each option wants it.
func (a *ancillary) putTimes(recv Recv, at time.Time) {
	switch {
	case recv&RecvTimestampNS != 0:
		putTime(a.put(unix.SOL_SOCKET, unix.SCM_TIMESTAMPNS, 16), at, 1)
	case recv&RecvTimestamp != 0:
		putTime(a.put(unix.SOL_SOCKET, unix.SCM_TIMESTAMP, 16), at, 1000)
	}
	if recv&RecvTimestamping != 0 {
		// struct scm_timestamping: by software, nothing, by the NIC.
		putTime(a.put(unix.SOL_SOCKET, unix.SCM_TIMESTAMPING, 48), at, 1)
	}
}

// putTime writes a struct timespec or timeval, whose fraction is in units of ns
// nanoseconds.
func putTime(b []byte, at time.Time, ns int) {
	binary.NativeEndian.PutUint64(b, uint64(at.Unix()))
	binary.NativeEndian.PutUint64(b[8:], uint64(at.Nanosecond()/ns))
}

// NextMessage returns the first control message of b and what follows it. false:
// it is malformed.
func NextMessage(b []byte) (level, typ int, data, rest []byte, ok bool) {
	if len(b) < unix.SizeofCmsghdr {
		return 0, 0, nil, nil, false
	}
	n := int(binary.NativeEndian.Uint32(b))
	if unix.SizeofCmsghdr == 16 {
		n = int(min(binary.NativeEndian.Uint64(b), 1<<20))
	}
	if n < unix.SizeofCmsghdr || n > len(b) {
		return 0, 0, nil, nil, false
	}
	level = int(binary.NativeEndian.Uint32(b[unix.SizeofCmsghdr-8:]))
	typ = int(binary.NativeEndian.Uint32(b[unix.SizeofCmsghdr-4:]))
	data = b[unix.SizeofCmsghdr:n]
	return level, typ, data, b[min(unix.CmsgSpace(len(data)), len(b)):], true
}

func intOf(data []byte) int {
	if len(data) < 4 {
		return -1
	}
	return int(int32(binary.NativeEndian.Uint32(data)))
}

// ErrOnlyKernel says that a datagram's control messages ask for what only the
// kernel does. It is an errors.ErrUnsupported.
var ErrOnlyKernel = fmt.Errorf("onload: a control message that only the kernel follows: %w", errors.ErrUnsupported)

// OnlyKernelWhy is why a socket leaves for the kernel then.
const OnlyKernelWhy = "the program sends a control message that only the kernel follows"

// Command fills m by the control messages oob of a datagram to m.Dst, which may
// be unset. six: as of an IPv6 socket. EINVAL: the kernel refuses them too.
func (e *Engine) Command(m *stack.Message, oob []byte, six bool) error {
	four := m.Dst.Addr().Is4() || !m.Dst.IsValid() && !six
	for len(oob) >= unix.SizeofCmsghdr { // a shorter rest is none (CMSG_NXTHDR)
		level, typ, data, rest, ok := NextMessage(oob)
		if !ok {
			return syscall.EINVAL
		}
		oob = rest
		switch {
		case level == unix.SOL_UDP && typ == unix.UDP_SEGMENT && len(data) == 2:
			m.Seg = int(binary.NativeEndian.Uint16(data))
		case level == unix.SOL_IP && four:
			if err := command4(m, typ, data); err != nil {
				return err
			}
		case level == unix.SOL_IPV6 && six:
			if err := command6(m, typ, data); err != nil {
				return err
			}
		default:
			return ErrOnlyKernel
		}
	}
	switch {
	case !m.Src.IsValid() || e.Local(m.Src):
		return nil
	case m.Src.Is4():
		return syscall.ENETUNREACH // as of the kernel's route
	}
	return syscall.EINVAL
}

func command4(m *stack.Message, typ int, data []byte) error {
	switch {
	case typ == unix.IP_PKTINFO && len(data) == 12:
		if intOf(data) != 0 {
			return ErrOnlyKernel // a link, whatever the routes say
		}
		if src := netip.AddrFrom4([4]byte(data[4:])); !src.IsUnspecified() {
			m.Src = src
		}
	case typ == unix.IP_TTL && intOf(data) >= 1 && intOf(data) <= 255:
		m.TTL = uint8(intOf(data))
	case typ == unix.IP_TOS && len(data) == 1:
		m.TOS, m.HasTOS = data[0], true
	case typ == unix.IP_TOS && intOf(data) >= 0 && intOf(data) <= 255:
		m.TOS, m.HasTOS = uint8(intOf(data)), true
	default:
		return ErrOnlyKernel
	}
	return nil
}

func command6(m *stack.Message, typ int, data []byte) error {
	switch {
	case typ == unix.IPV6_PKTINFO && len(data) == 20:
		if intOf(data[16:]) != 0 {
			return ErrOnlyKernel
		}
		if src := netip.AddrFrom16([16]byte(data)).Unmap(); !src.IsUnspecified() {
			m.Src = src
		}
	case typ == unix.IPV6_HOPLIMIT && intOf(data) >= 1 && intOf(data) <= 255:
		m.TTL = uint8(intOf(data))
	case typ == unix.IPV6_TCLASS && intOf(data) >= 0 && intOf(data) <= 255:
		m.TOS, m.HasTOS = uint8(intOf(data)), true
	default:
		return ErrOnlyKernel
	}
	return nil
}

// Learn fills info by the control messages that the kernel gave with a datagram.
func Learn(info *udp.Info, oob []byte) {
	for len(oob) > 0 {
		level, typ, data, rest, ok := NextMessage(oob)
		if !ok {
			return
		}
		oob = rest
		switch {
		case level == unix.SOL_UDP && typ == unix.UDP_GRO:
			info.Seg = max(intOf(data), 0)
		case level == unix.SOL_IP && typ == unix.IP_PKTINFO && len(data) == 12:
			info.Link = uint32(intOf(data))
			info.Dst = netip.AddrPortFrom(netip.AddrFrom4([4]byte(data[8:])), info.Dst.Port())
		case level == unix.SOL_IPV6 && typ == unix.IPV6_PKTINFO && len(data) == 20:
			info.Link = uint32(intOf(data[16:]))
			info.Dst = netip.AddrPortFrom(netip.AddrFrom16([16]byte(data)).Unmap(), info.Dst.Port())
		case level == unix.SOL_IP && typ == unix.IP_TTL, level == unix.SOL_IPV6 && typ == unix.IPV6_HOPLIMIT:
			info.TTL = uint8(intOf(data))
		case level == unix.SOL_IP && typ == unix.IP_TOS && len(data) > 0:
			info.TOS = data[0]
		case level == unix.SOL_IPV6 && typ == unix.IPV6_TCLASS:
			info.TOS = uint8(intOf(data))
		}
	}
}
