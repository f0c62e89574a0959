package afxdp

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/ring"
)

// txMetaLen is the size of struct xsk_tx_metadata, which ring.Headroom has
// room for. The kernel reads it in front of a packet (Linux 6.8).
const txMetaLen = 24

// xskTxChecksum is NETDEV_XSK_FLAGS_TX_CHECKSUM, from linux/netdev.h: the NIC
// completes checksums in zero-copy mode. Other NICs ignore the request.
const xskTxChecksum = 1 << 1

// wantTxMeta reports whether checksums should be left to the device. In copy mode
// the kernel sums for a device that cannot.
func wantTxMeta(c *Config, l *linkInfo, m bindMode) bool {
	if c.Offloads == OffloadsOff {
		return false
	}
	if m.zeroCopy {
		return l.xskActs&xskTxChecksum != 0
	}
	return l.txCsum
}

// register makes the arena the UMEM of q, with room for metadata if that is wanted
// and the kernel has it.
func (q *Queue) register(l *linkInfo, c *Config, m bindMode) error {
	if wantTxMeta(c, l, m) {
		err := registerUMEM(q.fd, q.arena.Mem(), q.arena.FrameSize(), txMetaLen)
		if err == nil {
			q.txMeta = txMetaLen
		}
		if !errors.Is(err, unix.EINVAL) {
			return err
		}
	}
	return registerUMEM(q.fd, q.arena.Mem(), q.arena.FrameSize(), 0)
}

// completes reports whether the kernel would complete the checksum of a packet
// that begins with d: it refuses a field outside of the first Desc.
func (q *Queue) completes(d *ring.Desc) bool {
	return d.Flags&ring.FlagGSO != 0 || q.txMeta > 0 && int(d.CsumStart)+int(d.CsumOff)+2 <= int(d.Len)
}

// putMeta asks for the checksum of the packet that begins with d.
func (q *Queue) putMeta(d *ring.Desc) {
	b := q.arena.Bytes(d.Frame)[int(d.Off)-txMetaLen:]
	native.PutUint64(b, unix.XDP_TXMD_FLAGS_CHECKSUM)
	native.PutUint16(b[8:], d.CsumStart)
	native.PutUint16(b[10:], d.CsumOff)
}
