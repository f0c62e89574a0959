//go:build guest

package nicshare

import (
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// The guard refuses rings of marked packet sockets, and of no others.
func TestGuestGuard(t *testing.T) {
	g, err := newGuard()
	must(t, err)
	defer g.Close()
	for _, marked := range []bool{true, false} {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		must(t, err)
		defer unix.Close(fd)
		if marked {
			must(t, mark(fd))
		}
		page := uint32(os.Getpagesize())
		for _, o := range []int{unix.PACKET_RX_RING, unix.PACKET_TX_RING} {
			q := unix.TpacketReq{Block_size: page, Block_nr: 1, Frame_size: page, Frame_nr: 1}
			var want error
			if marked {
				want = unix.EPERM
			}
			if err := unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, o, &q); err != want {
				t.Errorf("marked %v, ring %d: %v", marked, o, err)
			}
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V2); marked && err != nil {
			t.Errorf("another option: %v", err)
		}
	}
}
