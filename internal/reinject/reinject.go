// Package reinject gives the kernel IP packets as though they had arrived. So a socket
// of the kernel's gets what came for it before it was there: segments that were kept
// while a connection changed hands, a peer's FIN, datagrams that nobody has read.
//
// A packet leaves by a raw socket and comes back by lo, since its destination is an
// address of the host. So the kernel sees lo as the interface that it came by: a socket
// that is bound to another interface does not get it (SO_BINDTODEVICE), and netfilter
// has it on OUTPUT too. Where the interface matters, driver.Returner puts a frame on
// it; it needs an open AF_XDP device, and takes no more than a page.
//
// The packets are whole: their checksums are the sender's (IPv4's own is computed
// anew), and none is larger than lo's MTU, 65,536 bytes by default.
package reinject

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Socket takes the packets of one family. It belongs to the network namespace in which
// it was opened. Its methods may be called at the same time, but for Close.
type Socket struct {
	fd  int
	six bool
}

// Open opens a Socket for IPv6, or for IPv4. The error is EPERM without CAP_NET_RAW, and
// says so.
func Open(six bool) (*Socket, error) {
	family, level, headers := unix.AF_INET, unix.IPPROTO_IP, unix.IP_HDRINCL
	if six {
		family, level, headers = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_HDRINCL
	}
	// A socket of protocol IPPROTO_RAW receives nothing (raw(7)).
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if errors.Is(err, unix.EPERM) {
		return nil, fmt.Errorf("packets cannot be given to the kernel: a raw socket needs CAP_NET_RAW: %w", err)
	}
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := unix.SetsockoptInt(fd, level, headers, 1); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("setsockopt", err)
	}
	return &Socket{fd, six}, nil
}

// ErrPacket is what Put says of bytes that are no packet of the Socket's family.
var ErrPacket = errors.New("no packet of the family")

// Put gives the kernel one packet, from its IP header on. scope is the index of the
// link of a link-local address, else 0. It waits where the socket's buffer is full.
// EMSGSIZE: the packet is larger than lo's MTU.
func (s *Socket) Put(packet []byte, scope int) error {
	to, err := s.destination(packet, scope)
	if err != nil {
		return err
	}
	for {
		err := unix.Sendto(s.fd, packet, 0, to)
		if err != unix.EINTR {
			return os.NewSyscallError("sendto", err)
		}
	}
}

func (s *Socket) destination(packet []byte, scope int) (unix.Sockaddr, error) {
	if s.six {
		const header = 40 // RFC 8200 section 3
		if len(packet) < header || packet[0]>>4 != 6 || int(binary.BigEndian.Uint16(packet[4:]))+header != len(packet) {
			return nil, ErrPacket
		}
		return &unix.SockaddrInet6{Addr: [16]byte(packet[24:40]), ZoneId: uint32(scope)}, nil
	}
	const header = 20 // RFC 791 section 3.1
	if len(packet) < header || packet[0]>>4 != 4 || int(binary.BigEndian.Uint16(packet[2:])) != len(packet) {
		return nil, ErrPacket
	}
	return &unix.SockaddrInet4{Addr: [4]byte(packet[16:20])}, nil
}

// Close closes the socket.
func (s *Socket) Close() error { return os.NewSyscallError("close", unix.Close(s.fd)) }

// Packets gives the kernel several packets of any family, in order. It returns how many
// were taken, and the first error. One that is refused keeps no other back.
func Packets(packets [][]byte) (taken int, first error) {
	var four, six *Socket
	defer func() {
		for _, s := range []*Socket{four, six} {
			if s != nil {
				_ = s.Close()
			}
		}
	}()
	for _, p := range packets {
		s := &four
		if len(p) > 0 && p[0]>>4 == 6 {
			s = &six
		}
		if *s == nil {
			var err error
			if *s, err = Open(s == &six); err != nil {
				return taken, err
			}
		}
		if err := (*s).Put(p, 0); err == nil {
			taken++
		} else if first == nil {
			first = err
		}
	}
	return taken, first
}
