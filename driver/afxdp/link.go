package afxdp

import (
	"fmt"
	"strconv"

	"golang.org/x/sys/unix"
)

// linkInfo is what the kernel tells about an interface.
type linkInfo struct {
	index  int
	name   string
	mtu    int
	kind   string // of a virtual link: "veth", "bridge"; empty for hardware
	driver string
	rx, tx int // queues in use
	most   int // receive queues that it may have

	ethernet bool
	qdisc    string // empty where the kernel does not tell
	txCsum   bool   // it completes checksums in copy mode
	gsoMax   int    // largest packet that it takes for segmentation, bytes

	prog     uint32 // id of the XDP program attached, or of one of several; 0: none
	progMode string

	features uint64 // NETDEV_XDP_ACT_*
	known    bool   // features is valid (Linux 6.3)
	zcSegs   int    // descriptors per packet in zero-copy mode
	xskActs  uint64 // NETDEV_XSK_FLAGS_* of zero-copy mode

	rssKey   []byte
	rssTable []uint32
}

// XDP features of a driver, from linux/netdev.h.
const (
	actBasic    = 1 << 0
	actRedirect = 1 << 1
	actZeroCopy = 1 << 3
	actSG       = 1 << 5 // NETDEV_XDP_ACT_RX_SG
)

// virtualKinds are links that hand packets from one kernel socket to another
// without a wire, and so without a transport checksum.
var virtualKinds = map[string]bool{
	"veth": true, "netkit": true, "tun": true, "bridge": true, "dummy": true,
	"macvlan": true, "macvtap": true, "ipvlan": true, "ipvtap": true, "vxcan": true,
}

func (l *linkInfo) virtual() bool { return virtualKinds[l.kind] || virtualKinds[l.driver] }

// altNameSize is the room for an alternative name and its final zero
// (ALTIFNAMSIZ of linux/if.h).
const altNameSize = 128

// lookupLink asks about the interface with that name or alternative name, or
// with that number.
// It runs inside the interface's namespace.
func lookupLink(name string) (*linkInfo, error) {
	l := &linkInfo{zcSegs: 1, gsoMax: lanePacket}
	body := make([]byte, unix.SizeofIfInfomsg)
	if n, err := strconv.Atoi(name); err == nil && n > 0 {
		native.PutUint32(body[4:], uint32(n))
	} else if name == "" || len(name) >= altNameSize {
		return nil, fmt.Errorf("interface %q: %w", name, unix.ENODEV)
	} else {
		// The kernel looks for either kind of name by either attribute, but kernels
		// before 5.5 have no alternative names.
		attr := uint16(unix.IFLA_IFNAME)
		if len(name) >= unix.IFNAMSIZ {
			attr = unix.IFLA_ALT_IFNAME
		}
		body = nlAttr(body, attr, append([]byte(name), 0))
	}
	msgs, err := nlQuery(unix.NETLINK_ROUTE, unix.RTM_GETLINK, 0, body)
	if err != nil {
		return nil, fmt.Errorf("interface %q: %w", name, err)
	}
	if len(msgs) == 0 || len(msgs[0]) < unix.SizeofIfInfomsg {
		return nil, fmt.Errorf("interface %q: %w", name, unix.ENODEV)
	}
	l.ethernet = native.Uint16(msgs[0][2:]) == unix.ARPHRD_ETHER
	l.index = int(native.Uint32(msgs[0][4:]))
	nlAttrs(msgs[0][unix.SizeofIfInfomsg:], func(typ uint16, v []byte) {
		switch typ {
		case unix.IFLA_IFNAME:
			l.name = attrString(v)
		case unix.IFLA_MTU:
			l.mtu = int(attrUint32(v))
		case unix.IFLA_NUM_RX_QUEUES:
			l.rx = int(attrUint32(v))
			l.most = l.rx
		case unix.IFLA_NUM_TX_QUEUES:
			l.tx = int(attrUint32(v))
		case unix.IFLA_LINKINFO:
			nlAttrs(v, func(typ uint16, v []byte) {
				if typ == unix.IFLA_INFO_KIND {
					l.kind = attrString(v)
				}
			})
		case unix.IFLA_QDISC:
			l.qdisc = attrString(v)
		case unix.IFLA_GSO_MAX_SIZE, unix.IFLA_GSO_IPV4_MAX_SIZE:
			l.gsoMax = min(l.gsoMax, int(attrUint32(v)))
		case unix.IFLA_XDP:
			l.parseXDP(v)
		}
	})
	l.askEthtool()
	l.askNetdev()
	return l, nil
}

func (l *linkInfo) parseXDP(b []byte) {
	modes := map[uint16]string{
		unix.IFLA_XDP_DRV_PROG_ID: "native", unix.IFLA_XDP_SKB_PROG_ID: "generic", unix.IFLA_XDP_HW_PROG_ID: "offloaded",
	}
	nlAttrs(b, func(typ uint16, v []byte) {
		if mode := modes[typ]; mode != "" && attrUint32(v) != 0 {
			l.prog, l.progMode = attrUint32(v), mode
		}
	})
}

// askEthtool fills in what the driver answers, and leaves the rest.
func (l *linkInfo) askEthtool() {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if d, err := unix.IoctlGetEthtoolDrvinfo(fd, l.name); err == nil {
		l.driver = attrString(d.Driver[:])
	}
	if l.driver == "" {
		l.driver = l.kind
	}
	if rx, tx, err := channels(fd, l.name); err == nil && rx > 0 {
		l.rx, l.tx = rx, tx
	}
	l.rx, l.tx = max(l.rx, 1), max(l.tx, 1)
	l.most = max(l.most, l.rx)
	l.txCsum = ethtoolFlag(fd, l.name, unix.ETHTOOL_GTXCSUM)
	if key, table, err := rss(fd, l.name); err == nil {
		l.rssKey, l.rssTable = key, table
	}
}
