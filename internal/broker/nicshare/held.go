package nicshare

import (
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Held reports whether a process still has a socket of the Grant, and so the memory of the
// Grant is pinned. It may be after Close: nothing but the end of its sockets ends a
// namespace. The number of the namespace in that of the interface tells.
func (l *Link) Held() bool {
	err := l.n.c.InNS(func() error {
		q := nl.NewNetlinkRequest(unix.RTM_GETNSID, 0)
		q.AddData(&nl.RtGenMsg{})
		q.AddData(nl.NewRtAttr(unix.NETNSA_NSID, nl.Uint32Attr(uint32(l.nsid))))
		_, err := q.Execute(unix.NETLINK_ROUTE, 0)
		return err
	})
	return !errors.Is(err, unix.ENOENT)
}

// Memory is the size of the Grant's memory in bytes, 0 if an earlier version has made it.
func (l *Link) Memory() int64 { return l.memory }

// memoryPin is the map of the sizes of links' memory, by ID, for the next process.
const memoryPin = "memory"

func (n *NIC) loadMemory() (err error) {
	n.memory, err = ebpf.NewMapWithOptions(&ebpf.MapSpec{
		Name: memoryPin, Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: uint32(n.c.MaxLinks), Pinning: ebpf.PinByName,
	}, ebpf.MapOptions{PinPath: n.pins.dir})
	if err != nil {
		return fmt.Errorf("nicshare: map of memory: %w", err)
	}
	return nil
}

// number gives the far end's namespace a number that no other namespace has had. The kernel
// would use the numbers again that it gives itself.
func (l *Link) number(ns int) error {
	const tries = 10
	for try := 1; ; try++ {
		l.nsid = int(rand.Int32())
		err := l.n.nl.SetNetNsIdByFd(ns, l.nsid)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EEXIST) || try == tries {
			return fmt.Errorf("nicshare: number of a namespace: %w", err)
		}
	}
}
