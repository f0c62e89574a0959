package control

import (
	"encoding/binary"
	"net/netip"
	"os"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// monitorBuffer is the size of the socket's queue for notices, in bytes. An
// overrun costs a full dump.
const monitorBuffer = 1 << 20

// monitor is a netlink socket on which the kernel announces changes.
type monitor struct {
	f   *os.File
	raw syscall.RawConn
	buf []byte
}

// news is what one turn of reading brought.
type news struct {
	tables    bool // links, addresses, routes, rules, nexthops or settings
	settings  bool // of links: rp_filter among others
	neighbors []neighborEvent
}

// newMonitor subscribes, in the namespace of the thread.
func newMonitor() (*monitor, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, os.NewSyscallError("netlink", err)
	}
	f := os.NewFile(uintptr(fd), "netlink")
	var groups uint32
	for _, g := range []int{
		unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH,
		unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV4_RULE,
		unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV6_RULE,
		unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF, unix.RTNLGRP_NEXTHOP,
	} {
		groups |= 1 << (g - 1)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, monitorBuffer) != nil {
		// Without privilege as much as is allowed; an overrun is survivable.
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, monitorBuffer)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		f.Close()
		return nil, os.NewSyscallError("bind", err)
	}
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &monitor{f, raw, make([]byte, 64<<10)}, nil
}

// close makes read return an error.
func (m *monitor) close() { m.f.Close() }

// read waits for news, until the deadline unless that is zero, and takes all of
// it. After an overrun it empties the queue too, so that no news older than the
// coming dump is left, and returns ENOBUFS.
func (m *monitor) read(deadline time.Time) (n news, err error) {
	if err := m.f.SetReadDeadline(deadline); err != nil {
		return n, err
	}
	var inner error
	err = m.raw.Read(func(fd uintptr) bool {
		any := false
		for {
			size, from, err := unix.Recvfrom(int(fd), m.buf, 0)
			switch {
			case err == unix.EINTR:
				continue
			case err == unix.EAGAIN:
				return any
			case err == unix.ENOBUFS:
				inner, any = err, true
				continue
			case err != nil:
				inner = err
				return true
			}
			any = true
			if sa, ok := from.(*unix.SockaddrNetlink); !ok || sa.Pid != 0 {
				continue // not from the kernel
			}
			if err := n.parse(m.buf[:size]); err != nil {
				inner = err
				return true
			}
		}
	})
	if err == nil {
		err = inner
	}
	return n, err
}

func (n *news) parse(b []byte) error {
	msgs, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return err
	}
	for _, m := range msgs {
		switch m.Header.Type {
		case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
			if e, ok := parseNeighbor(m.Data, m.Header.Type == unix.RTM_DELNEIGH); ok {
				n.neighbors = append(n.neighbors, e)
			}
		case unix.RTM_NEWNETCONF, unix.RTM_DELNETCONF:
			n.tables, n.settings = true, true
		default:
			n.tables = true
		}
	}
	return nil
}

// usableStates are those in which the kernel itself would send.
const usableStates = netlink.NUD_REACHABLE | netlink.NUD_STALE | netlink.NUD_DELAY | netlink.NUD_PROBE | netlink.NUD_PERMANENT | netlink.NUD_NOARP

// fixedStates are those that the kernel never probes.
const fixedStates = netlink.NUD_PERMANENT | netlink.NUD_NOARP

// parseNeighbor reads an ndmsg and its attributes.
func parseNeighbor(b []byte, deleted bool) (e neighborEvent, ok bool) {
	if len(b) < unix.SizeofNdMsg {
		return e, false
	}
	if f := b[0]; f != unix.AF_INET && f != unix.AF_INET6 {
		return e, false // a bridge's table
	}
	e.link = int(binary.NativeEndian.Uint32(b[4:]))
	state := int(binary.NativeEndian.Uint16(b[8:]))
	flags := b[10]
	attrs, err := nl.ParseRouteAttr(b[unix.SizeofNdMsg:])
	if err != nil {
		return e, false
	}
	hasMAC := false
	for _, a := range attrs {
		switch a.Attr.Type {
		case unix.NDA_DST:
			if addr, good := netip.AddrFromSlice(a.Value); good {
				e.addr, ok = addr, true
			}
		case unix.NDA_LLADDR:
			hasMAC = len(a.Value) == len(e.mac)
			copy(e.mac[:], a.Value)
		}
	}
	if flags&unix.NTF_PROXY != 0 {
		return e, false // what we answer for others
	}
	e.usable = !deleted && hasMAC && state&usableStates != 0
	e.fixed = state&fixedStates != 0
	e.final = deleted || state&netlink.NUD_FAILED != 0
	return e, ok
}
