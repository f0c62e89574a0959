package claim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// alone refuses a TCP socket beside which another user has the port, too. With SO_REUSEADDR
// the kernel lets a socket be bound, and listen, where connections of a listener that has
// closed go on. They have their packets from the kernel, which looks them up first. A port
// that is steered has all.
func (s *socket) alone(uid uint32, devices []int) error {
	// Whoever listens goes on meanwhile. And the list, which is long, is not asked for where
	// nobody else can be there.
	if !s.listens {
		lonely, err := s.bindsBeside(devices)
		if err != nil || lonely {
			return err
		}
	}
	self, err := unix.GetsockoptUint64(s.fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		return os.NewSyscallError("getsockopt SO_COOKIE", err)
	}
	at := s.local()
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		others, err := users(family, at.Port())
		if err != nil {
			return fmt.Errorf("the sockets of port %d (sock_diag): %w", at.Port(), err)
		}
		for _, o := range others {
			if o.uid != uid && o.cookie != self && meet(at.Addr(), o.at) {
				return refuse(unix.EADDRINUSE, "has the port of connections of user %d, which go on", o.uid)
			}
		}
	}
	return nil
}

// bindsBeside reports whether no other socket has the port of s for packets of the devices.
// A socket that is bound to one device is no conflict for a socket that is bound to another;
// for all others it is. s has no peer, and loses nothing meanwhile.
func (s *socket) bindsBeside(devices []int) (lonely bool, err error) {
	const none, loopback = 1<<31 - 1, 1
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, none); err != nil {
		return false, os.NewSyscallError("setsockopt SO_BINDTOIFINDEX", err)
	}
	for _, d := range append([]int{loopback}, devices...) {
		var fd int
		if fd, err = s.bindOwn(unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, d); err == nil {
			_ = unix.Close(fd)
		} else if !errors.Is(err, unix.ENODEV) { // that device has gone
			break
		}
		err = nil
	}
	if e := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_BINDTOIFINDEX, 0); e != nil {
		return false, errors.Join(err, os.NewSyscallError("setsockopt SO_BINDTOIFINDEX", e))
	}
	if errors.Is(err, unix.EADDRINUSE) {
		return false, nil
	}
	return err == nil, err
}

// meet reports whether two local addresses have packets in common. The zero Addr is all of
// both families, an unspecified one all of its own.
func meet(a, b netip.Addr) bool {
	if !a.IsValid() || !b.IsValid() {
		return true
	}
	return a.Is4() == b.Is4() && (a == b || a.IsUnspecified() || b.IsUnspecified())
}

// other is a socket of TCP that has a port.
type other struct {
	at     netip.Addr // as meet takes it
	uid    uint32
	cookie uint64 // SO_COOKIE
}

// diagRequest is struct inet_diag_req_v2 (linux/inet_diag.h), with the port in network order.
type diagRequest struct {
	family, protocol uint8
	_, _             uint8 // extensions, padding
	states           uint32
	sport, _         [2]byte   // and the peer's port
	_, _             [16]byte  // addresses
	_                uint32    // interface
	_                [2]uint32 // cookie
}

func (r *diagRequest) Len() int { return binary.Size(r) }

func (r *diagRequest) Serialize() []byte {
	b, _ := binary.Append(nil, binary.NativeEndian, r) // it never fails
	return b
}

const (
	sockDiagByFamily = 20 // SOCK_DIAG_BY_FAMILY, linux/sock_diag.h
	// Offsets of struct inet_diag_msg.
	diagState, diagPort, diagSrc, diagCookie, diagUID, diagInode, diagLen = 1, 4, 8, 44, 64, 68, 72
	// States of linux/tcp_states.h. In TIME-WAIT nobody has the connection any more, and half
	// open ones are the listener's, s itself. Linux lists sockets that are only bound since 6.8.
	established, synRecv, finWait2, timeWait, closed, closeWait, listening, newSynRecv, boundOnly = 1, 3, 5, 6, 7, 8, 10, 12, 13

	diagStates = (1<<(boundOnly+1) - 2) &^ (1<<synRecv | 1<<timeWait | 1<<closed | 1<<listening | 1<<newSynRecv)
)

// hasOwner reports whether somebody has a socket of that state, without an inode if no
// process has a descriptor of it. Then it waits in the queue of the listener, which is s
// itself, or has been closed. Before Linux 6.16 a closed one has no user either.
func hasOwner(state uint8, inode, uid uint32) bool {
	return inode != 0 || uid != 0 && state != established && state != closeWait && state != finWait2
}

// only6 reports whether the attributes of a socket of IPv6 say that it is of IPv6 alone, as
// those of the broker itself say, which hold the ports of others.
func only6(attributes []byte) bool {
	const skV6Only = 11 // INET_DIAG_SKV6ONLY, linux/inet_diag.h
	l, err := nl.ParseRouteAttr(attributes)
	return err == nil && slices.ContainsFunc(l, func(a syscall.NetlinkRouteAttr) bool {
		return a.Attr.Type == skV6Only && len(a.Value) > 0 && a.Value[0] == 1
	})
}

// users returns the sockets of a family that have a port of TCP.
func users(family uint8, port uint16) (all []other, err error) {
	q := nl.NewNetlinkRequest(sockDiagByFamily, unix.NLM_F_DUMP)
	r := &diagRequest{family: family, protocol: unix.IPPROTO_TCP, states: diagStates}
	binary.BigEndian.PutUint16(r.sport[:], port)
	q.AddData(r)
	msgs, err := q.Execute(unix.NETLINK_INET_DIAG, 0)
	if err != nil {
		return nil, err
	}
	for _, m := range msgs {
		if len(m) < diagLen {
			return nil, fmt.Errorf("an answer of %d bytes", len(m))
		}
		if binary.BigEndian.Uint16(m[diagPort:]) != port { // Linux lists all that are only bound
			continue
		}
		if !hasOwner(m[diagState], binary.NativeEndian.Uint32(m[diagInode:]), binary.NativeEndian.Uint32(m[diagUID:])) {
			continue
		}
		low, high := binary.NativeEndian.Uint32(m[diagCookie:]), binary.NativeEndian.Uint32(m[diagCookie+4:])
		o := other{uid: binary.NativeEndian.Uint32(m[diagUID:]), cookie: uint64(high)<<32 | uint64(low)}
		if family == unix.AF_INET {
			o.at = netip.AddrFrom4([4]byte(m[diagSrc:]))
		} else {
			o.at = netip.AddrFrom16([16]byte(m[diagSrc:])).Unmap()
			if o.at == netip.IPv6Unspecified() && !only6(m[diagLen:]) {
				o.at = netip.Addr{}
			}
		}
		all = append(all, o)
	}
	return all, nil
}
