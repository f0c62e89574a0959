package onload

import (
	"bytes"
	"crypto/rand"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/engine"
)

// ListenConfig.ReplyFromDestination: the address that ReadFrom returns carries the
// one that the datagram was sent to, behind the bytes of its IP. They are within
// the slice's capacity, so programs do not see them and copies of the address keep
// them.

// replyTail is the bytes behind an IP: replyMark, then an address as of IPv6.
const replyTail = 8 + 16

// replyMark is random, so that no other slice happens to end with it.
var replyMark = sync.OnceValue(func() (m [8]byte) {
	_, _ = rand.Read(m[:]) // which never fails
	return m
})

// markReply appends dst to a, where it can be the source of an answer.
func markReply(a *net.UDPAddr, dst netip.Addr) {
	mark, to := replyMark(), dst.As16()
	b := make([]byte, 0, len(a.IP)+replyTail)
	b = append(append(append(b, a.IP...), mark[:]...), to[:]...)
	a.IP = b[:len(a.IP)]
}

// replySource returns what markReply has appended to a.
func replySource(a *net.UDPAddr) (src netip.Addr, ok bool) {
	if a == nil || cap(a.IP)-len(a.IP) != replyTail {
		return src, false
	}
	mark := replyMark()
	tail := a.IP[len(a.IP):cap(a.IP)]
	if !bytes.Equal(tail[:len(mark)], mark[:]) {
		return src, false
	}
	return netip.AddrFrom16([16]byte(tail[len(mark):])).Unmap(), true
}

// replies reports whether c was opened with ReplyFromDestination.
func (c *UDPConn) replies() bool { return c != nil && c.engine != nil }

// readAsked is ReadFromUDP of a socket that answers from where it was asked.
func (c *UDPConn) readAsked(b []byte) (int, *net.UDPAddr, error) {
	var oob [128]byte
	n, oobn, _, a, err := c.via().ReadMsgUDPAddrPort(b, oob[:])
	if err != nil {
		return n, nil, err
	}
	from := net.UDPAddrFromAddrPort(a)
	if dst, ok := askedAt(oob[:oobn]); ok && c.engine.in.MaySend(dst) {
		markReply(from, dst)
	}
	return n, from, nil
}

// askedAt finds in control messages where to answer a datagram from. What was sent
// to a group of IPv6 has no such address.
func askedAt(oob []byte) (dst netip.Addr, found bool) {
	four := false // there is an IP_PKTINFO
	for len(oob) > 0 {
		level, typ, data, rest, ok := engine.NextMessage(oob)
		if !ok {
			break
		}
		oob = rest
		switch {
		case level == unix.SOL_IP && typ == unix.IP_PKTINFO && len(data) == 12:
			dst, four = netip.AddrFrom4([4]byte(data[4:])), true // ipi_spec_dst
		case level == unix.SOL_IPV6 && typ == unix.IPV6_PKTINFO && len(data) == 20 && !four:
			// An IPv6 socket of Linux gives both for a datagram of IPv4. This one has
			// the destination, which may be a broadcast address.
			dst = netip.AddrFrom16([16]byte(data)).Unmap()
		}
	}
	return dst, dst.IsValid() && !dst.IsMulticast() && !dst.IsUnspecified()
}

// writeReply writes b to an address of readAsked's. false: it is none.
func (c *UDPConn) writeReply(b []byte, to *net.UDPAddr) (n int, ok bool, err error) {
	src, ok := replySource(to)
	if !ok {
		return 0, false, nil
	}
	oob := (&ipv4.ControlMessage{Src: src.AsSlice()}).Marshal()
	if !src.Is4() {
		oob = (&ipv6.ControlMessage{Src: src.AsSlice()}).Marshal()
	}
	n, _, err = c.via().WriteMsgUDP(b, oob, to)
	return n, true, err
}

// askDestination has the kernel's socket say where datagrams were sent to.
func askDestination(c syscall.RawConn) (err error) {
	if failed := c.Control(func(fd uintptr) {
		if err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1); err == nil {
			// An IPv4 socket does not know it.
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		}
	}); failed != nil {
		return failed
	}
	return os.NewSyscallError("setsockopt", err)
}

const recvDestination = engine.RecvPktInfo | engine.RecvPktInfo6
