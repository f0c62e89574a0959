package onload

import (
	"net/netip"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestAskedAtBothFamilies: where a socket of IPv6 gives both kinds of packet info for
// a datagram of IPv4, in either order, the answer leaves from ipi_spec_dst and not
// from the broadcast address that the datagram went to.
func TestAskedAtBothFamilies(t *testing.T) {
	own, broadcast := netip.MustParseAddr("10.7.0.2"), netip.MustParseAddr("10.7.0.255")
	message := func(level, typ int, data []byte) []byte {
		b := make([]byte, unix.CmsgSpace(len(data)))
		h := unix.Cmsghdr{Level: int32(level), Type: int32(typ)}
		h.SetLen(unix.CmsgLen(len(data)))
		putHeader(b, &h)
		copy(b[unix.CmsgLen(0):], data)
		return b
	}
	to := broadcast.As4()
	spec := own.As4()
	four := message(unix.SOL_IP, unix.IP_PKTINFO, append(append([]byte{1, 0, 0, 0}, spec[:]...), to[:]...))
	mapped := broadcast.As16()
	six := message(unix.SOL_IPV6, unix.IPV6_PKTINFO, append(mapped[:], 1, 0, 0, 0))
	for name, oob := range map[string][]byte{"IPv4 first": append(append([]byte{}, four...), six...), "IPv6 first": append(append([]byte{}, six...), four...)} {
		if dst, ok := askedAt(oob); dst != own || !ok {
			t.Errorf("%s: %v, %v, want %v", name, dst, ok, own)
		}
	}
	if dst, ok := askedAt(six); dst != broadcast || !ok {
		t.Errorf("IPv6 alone: %v, %v, want %v", dst, ok, broadcast)
	}
}

// putHeader writes h at the start of b.
func putHeader(b []byte, h *unix.Cmsghdr) {
	*(*unix.Cmsghdr)(unsafe.Pointer(&b[0])) = *h
}
