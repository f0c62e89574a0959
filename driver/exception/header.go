package exception

import (
	"encoding/binary"
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// netHeader is struct virtio_net_hdr (virtio 1.2, 5.1.6), in the byte order of the host:
// that of a TAP device with IFF_VNET_HDR.
type netHeader struct {
	flags, gsoType                         uint8
	hdrLen, gsoSize, csumStart, csumOffset uint16
}

const (
	headerLen = 10

	needsCsum = 1 // the checksum is only the pseudo-header's
	dataValid = 2 // the device verified it

	gsoTCP4, gsoTCP6 = 1, 4
	gsoUDP           = 5 // VIRTIO_NET_HDR_GSO_UDP_L4
)

func (h *netHeader) put(b []byte) {
	b[0], b[1] = h.flags, h.gsoType
	for i, v := range []uint16{h.hdrLen, h.gsoSize, h.csumStart, h.csumOffset} {
		binary.NativeEndian.PutUint16(b[2+2*i:], v)
	}
}

// write writes one packet to a TAP: its netHeader, then its parts. It never waits.
func write(tap syscall.RawConn, parts [][]byte) (err error) {
	cerr := tap.Control(func(fd uintptr) { _, err = unix.Writev(int(fd), parts) })
	return errors.Join(cerr, err)
}
