package engine

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/stack"
)

// linkGroup is a multicast group on a link.
type linkGroup struct {
	link  int // index
	group netip.Addr
}

// hearing returns what the kernel's socket c hears of multicast groups. The kernel
// tells of a socket only what it is asked for, so the groups of all links are tried.
func (e *Engine) hearing(c syscall.RawConn) (h stack.Hearing, err error) {
	all, err := e.joinedGroups()
	if err != nil {
		return h, err
	}
	err = c.Control(func(fd uintptr) {
		h.Strict4 = isOff(int(fd), unix.IPPROTO_IP, unix.IP_MULTICAST_ALL)
		h.Strict6 = isOff(int(fd), unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_ALL)
		for _, g := range all {
			if m, ok := membership(int(fd), g); ok {
				h.Joined = append(h.Joined, m)
			}
		}
	})
	return h, err
}

// isOff reports whether an option that is on by default is off. One that the socket
// has not is on.
func isOff(fd, level, opt int) bool {
	v, err := unix.GetsockoptInt(fd, level, opt)
	return err == nil && v == 0
}

// joinedGroups returns the groups that some socket of the namespace has joined.
func (e *Engine) joinedGroups() (all []linkGroup, err error) {
	err = e.ns.Do(func() error {
		if err := eachLine("igmp", func(line string, col []string) { all = igmpLine(all, line, col) }); err != nil {
			return err
		}
		err := eachLine("igmp6", func(_ string, col []string) { all = igmp6Line(all, col) })
		if os.IsNotExist(err) { // a kernel without IPv6
			return nil
		}
		return err
	})
	return all, err
}

// eachLine calls f with the lines of a file of the thread's /proc/net, and their
// columns.
func eachLine(file string, f func(line string, col []string)) error {
	r, err := os.Open("/proc/thread-self/net/" + file)
	if err != nil {
		return err
	}
	defer r.Close()
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f(lines.Text(), strings.Fields(lines.Text()))
	}
	return lines.Err()
}

// igmpLine reads a line of /proc/net/igmp: that of a link begins with its index,
// those of its groups are indented.
func igmpLine(all []linkGroup, line string, col []string) []linkGroup {
	if len(col) == 0 {
		return all
	}
	if !strings.HasPrefix(line, "\t") {
		if i, err := strconv.Atoi(col[0]); err == nil {
			all = append(all, linkGroup{link: i}) // its groups follow
		}
		return all
	}
	w, err := strconv.ParseUint(col[0], 16, 32)
	if err != nil || len(all) == 0 {
		return all
	}
	var a [4]byte
	binary.NativeEndian.PutUint32(a[:], uint32(w))
	return append(all, linkGroup{all[len(all)-1].link, netip.AddrFrom4(a)})
}

// igmp6Line reads a line of /proc/net/igmp6: index, name, group.
func igmp6Line(all []linkGroup, col []string) []linkGroup {
	if len(col) < 3 {
		return all
	}
	i, err := strconv.Atoi(col[0])
	b, herr := hex.DecodeString(col[2])
	if err != nil || herr != nil || len(b) != 16 {
		return all
	}
	return append(all, linkGroup{i, netip.AddrFrom16([16]byte(b))})
}

// A struct group_filter (linux/in.h): interface, group, filter mode, number of
// sources, the sources. Addresses are struct sockaddr_storage.
const (
	gfGroup   = 8
	gfMode    = gfGroup + sizeofStorage
	gfNum     = gfMode + 4
	gfSources = gfNum + 4

	sizeofStorage = 128
	maxSources    = 64 // mld_max_msf; igmp_max_msf is 10. Asked again where there are more.
	modeInclude   = 1  // MCAST_INCLUDE
)

// membership returns the membership of the socket fd in a group on a link; ok is
// false if there is none.
func membership(fd int, g linkGroup) (m stack.Membership, ok bool) {
	if !g.group.IsValid() {
		return m, false
	}
	for room := maxSources; ; {
		b := make([]byte, gfSources+room*sizeofStorage)
		binary.NativeEndian.PutUint32(b, uint32(g.link))
		level := unix.IPPROTO_IPV6
		if putStorage(b[gfGroup:], g.group); g.group.Is4() {
			level = unix.IPPROTO_IP
		}
		binary.NativeEndian.PutUint32(b[gfNum:], uint32(room))
		n := uint32(len(b))
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), uintptr(level), unix.MCAST_MSFILTER,
			uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&n)), 0)
		if errno != 0 {
			return m, false
		}
		num := int(binary.NativeEndian.Uint32(b[gfNum:]))
		if num > room {
			room = num
			continue
		}
		m = stack.Membership{Group: g.group, Link: g.link, Include: binary.NativeEndian.Uint32(b[gfMode:]) == modeInclude}
		for i := range num {
			m.Sources = append(m.Sources, storageAddr(b[gfSources+i*sizeofStorage:]))
		}
		return m, true
	}
}

// putStorage writes a as a struct sockaddr_storage.
func putStorage(b []byte, a netip.Addr) {
	if a.Is4() {
		binary.NativeEndian.PutUint16(b, unix.AF_INET)
		copy(b[4:], a.AsSlice())
		return
	}
	binary.NativeEndian.PutUint16(b, unix.AF_INET6)
	copy(b[8:], a.AsSlice())
}

func storageAddr(b []byte) netip.Addr {
	if binary.NativeEndian.Uint16(b) == unix.AF_INET {
		return netip.AddrFrom4([4]byte(b[4:]))
	}
	return netip.AddrFrom16([16]byte(b[8:]))
}
