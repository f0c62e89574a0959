package afxdp

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// The netdev family of generic netlink, from linux/netdev.h.
const (
	netdevDevGet   = 1
	netdevQueueGet = 10
	netdevNAPIGet  = 11
	netdevNAPISet  = 14

	devAttrIfindex   = 1
	devAttrFeatures  = 3
	devAttrZCMaxSegs = 4
	devAttrXSKFlags  = 6

	napiAttrIfindex  = 1
	napiAttrID       = 2
	napiAttrIRQ      = 3
	napiAttrPID      = 4
	napiAttrDefer    = 5
	napiAttrFlush    = 6
	napiAttrThreaded = 8

	queueAttrID      = 1
	queueAttrIfindex = 2
	queueAttrType    = 3
	queueAttrNAPI    = 4

	queueTypeRX = 0
	queueTypeTX = 1

	threadedBusyPoll = 2 // NETDEV_NAPI_THREADED_BUSY_POLL
)

// genlFamily asks for the number of a generic netlink family, which stays the same
// until the next boot, and for those of its multicast groups.
func genlFamily(name string) (family uint16, groups map[string]uint32, err error) {
	msgs, err := nlQuery(unix.NETLINK_GENERIC, unix.GENL_ID_CTRL, 0,
		nlAttr(genl(unix.CTRL_CMD_GETFAMILY), unix.CTRL_ATTR_FAMILY_NAME, append([]byte(name), 0)))
	if err != nil {
		return 0, nil, fmt.Errorf("%s family: %w", name, err)
	}
	groups = map[string]uint32{}
	for _, m := range msgs {
		nlAttrs(m[min(genlLen, len(m)):], func(typ uint16, v []byte) {
			switch {
			case typ == unix.CTRL_ATTR_FAMILY_ID && len(v) >= 2:
				family = native.Uint16(v)
			case typ == unix.CTRL_ATTR_MCAST_GROUPS:
				nlAttrs(v, func(_ uint16, v []byte) {
					var name string
					var id uint32
					nlAttrs(v, func(typ uint16, v []byte) {
						switch typ {
						case unix.CTRL_ATTR_MCAST_GRP_NAME:
							name = attrString(v)
						case unix.CTRL_ATTR_MCAST_GRP_ID:
							id = attrUint32(v)
						}
					})
					groups[name] = id
				})
			}
		})
	}
	if family == 0 {
		return 0, nil, fmt.Errorf("%s family: %w", name, unix.ENOENT)
	}
	return family, groups, nil
}

// netdevFamily is the number of the netdev family. Kernels before 6.3 have none.
func netdevFamily() (uint16, error) {
	family, _, err := genlFamily("netdev")
	return family, err
}

// ethtoolMonitor returns the number of the ethtool family, and that of the group
// which its notices go to (the kernel's ethtool-netlink.rst).
func ethtoolMonitor() (family uint16, group uint32, err error) {
	family, groups, err := genlFamily("ethtool")
	if err == nil && groups["monitor"] == 0 {
		err = fmt.Errorf("ethtool notices: %w", unix.ENOENT)
	}
	return family, groups["monitor"], err
}

const genlLen = 4

func genl(cmd byte) []byte { return []byte{cmd, 1, 0, 0} }

// askNetdev asks what XDP the driver does. Kernels before 6.3 do not know.
func (l *linkInfo) askNetdev() {
	family, err := netdevFamily()
	if err != nil {
		return
	}
	msgs, err := nlQuery(unix.NETLINK_GENERIC, family, 0,
		nlAttr(genl(netdevDevGet), devAttrIfindex, native.AppendUint32(nil, uint32(l.index))))
	if err != nil || len(msgs) == 0 || len(msgs[0]) < genlLen {
		return
	}
	nlAttrs(msgs[0][genlLen:], func(typ uint16, v []byte) {
		switch {
		case typ == devAttrFeatures && len(v) >= 8:
			l.features, l.known = native.Uint64(v), true
		case typ == devAttrZCMaxSegs:
			l.zcSegs = max(int(attrUint32(v)), 1)
		case typ == devAttrXSKFlags && len(v) >= 8:
			l.xskActs = native.Uint64(v)
		}
	})
}

// napi is a NAPI instance: what the kernel polls a queue or a few by.
type napi struct {
	id       uint32
	irq      int    // its interrupt, -1: not told
	pid      int    // the kernel's thread that polls it, 0: none
	defers   uint64 // polls without a packet before the interrupt is on again
	flush    uint64 // ns without a poll before the kernel polls by itself
	threaded uint32
	own      bool // defers and flush are of its own (Linux 6.13)
	threads  bool // threaded is (Linux 6.17)
}

// queryNAPI asks for the NAPI instance with that id.
func queryNAPI(family uint16, id uint32) (napi, error) {
	n := napi{id: id, irq: -1}
	msgs, err := nlQuery(unix.NETLINK_GENERIC, family, 0,
		nlAttr(genl(netdevNAPIGet), napiAttrID, native.AppendUint32(nil, id)))
	if err == nil && (len(msgs) == 0 || len(msgs[0]) < genlLen) {
		err = unix.ENOENT
	}
	if err != nil {
		return n, fmt.Errorf("NAPI instance %d: %w", id, err)
	}
	n.parse(msgs[0][genlLen:])
	return n, nil
}

// listNAPIs asks for all NAPI instances of an interface (Linux 6.8).
func listNAPIs(family uint16, ifindex int) ([]napi, error) {
	msgs, err := nlQuery(unix.NETLINK_GENERIC, family, unix.NLM_F_DUMP,
		nlAttr(genl(netdevNAPIGet), napiAttrIfindex, native.AppendUint32(nil, uint32(ifindex))))
	if err != nil {
		return nil, fmt.Errorf("NAPI instances: %w", err)
	}
	var all []napi
	for _, m := range msgs {
		if len(m) >= genlLen {
			n := napi{irq: -1}
			n.parse(m[genlLen:])
			all = append(all, n)
		}
	}
	return all, nil
}

func (n *napi) parse(b []byte) {
	nlAttrs(b, func(typ uint16, v []byte) {
		switch typ {
		case napiAttrID:
			n.id = attrUint32(v)
		case napiAttrIRQ:
			n.irq = int(attrUint32(v))
		case napiAttrPID:
			n.pid = int(attrUint32(v))
		case napiAttrDefer:
			n.defers, n.own = attrUint(v), true
		case napiAttrFlush:
			n.flush = attrUint(v)
		case napiAttrThreaded:
			n.threaded, n.threads = attrUint32(v), true
		}
	})
}

// nicQueue is a queue of an interface, and the NAPI instance that polls it.
type nicQueue struct {
	id   int
	kind uint32 // queueTypeRX, queueTypeTX
	napi uint32 // 0: not told
}

// listQueues asks for the queues of an interface (Linux 6.8).
func listQueues(family uint16, ifindex int) ([]nicQueue, error) {
	msgs, err := nlQuery(unix.NETLINK_GENERIC, family, unix.NLM_F_DUMP,
		nlAttr(genl(netdevQueueGet), queueAttrIfindex, native.AppendUint32(nil, uint32(ifindex))))
	if err != nil {
		return nil, fmt.Errorf("queues: %w", err)
	}
	var all []nicQueue
	for _, m := range msgs {
		q := nicQueue{id: -1}
		nlAttrs(m[min(genlLen, len(m)):], func(typ uint16, v []byte) {
			switch typ {
			case queueAttrID:
				q.id = int(attrUint32(v))
			case queueAttrType:
				q.kind = attrUint32(v)
			case queueAttrNAPI:
				q.napi = attrUint32(v)
			}
		})
		if q.id >= 0 {
			all = append(all, q)
		}
	}
	return all, nil
}

// queueIRQs maps receive queues to their interrupts, as far as the driver
// tells.
func queueIRQs(ifindex int) map[int]int {
	irqs := map[int]int{}
	family, err := netdevFamily()
	if err != nil {
		return irqs
	}
	instances, err1 := listNAPIs(family, ifindex)
	queues, err2 := listQueues(family, ifindex)
	if err1 != nil || err2 != nil {
		return irqs
	}
	ofNAPI := map[uint32]int{}
	for _, n := range instances {
		if n.irq > 0 {
			ofNAPI[n.id] = n.irq
		}
	}
	for _, q := range queues {
		if irq, ok := ofNAPI[q.napi]; ok && q.kind == queueTypeRX {
			irqs[q.id] = irq
		}
	}
	return irqs
}

// transmits reports whether the NAPI instance polls the transmit queue, too.
func transmits(ifindex, queue int, napi uint32) bool {
	family, err := netdevFamily()
	if err != nil {
		return false
	}
	all, err := listQueues(family, ifindex)
	return err == nil && slices.Contains(all, nicQueue{queue, queueTypeTX, napi})
}

// set is a request that sets what is given of a NAPI instance.
type set struct {
	id            uint32
	defers, flush *uint64
	threaded      *uint32
}

func (s *set) body() []byte {
	b := nlAttr(genl(netdevNAPISet), napiAttrID, native.AppendUint32(nil, s.id))
	if s.defers != nil {
		b = nlAttr(b, napiAttrDefer, native.AppendUint32(nil, uint32(*s.defers)))
	}
	if s.flush != nil {
		b = nlAttr(b, napiAttrFlush, native.AppendUint64(nil, *s.flush))
	}
	if s.threaded != nil {
		b = nlAttr(b, napiAttrThreaded, native.AppendUint32(nil, *s.threaded))
	}
	return b
}

// do sets it now.
func (s *set) do(family uint16) error {
	_, err := nlQuery(unix.NETLINK_GENERIC, family, unix.NLM_F_ACK, s.body())
	if err != nil {
		return fmt.Errorf("NAPI instance %d: %w", s.id, err)
	}
	return nil
}

// message is the request as it goes to the kernel, behind others.
func (s *set) message(family uint16) []byte {
	return nlRequest(family, 0, s.body())
}
