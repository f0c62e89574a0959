package interop

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sender is a connected UDP socket under test, and what hears its packets.
type sender struct {
	asked
	fd int
}

// sent returns what becomes of a datagram of n bytes: the error, or the fragments
// that came to the peer.
func (s *sender) sent(n int) string {
	s.Helper()
	if _, err := s.c.Write(make([]byte, n)); err != nil {
		var errno syscall.Errno
		if !errors.As(err, &errno) {
			s.Fatal(err)
		}
		return errno.Error()
	}
	if got := readOne(s, s.peer); len(got) != n {
		return fmt.Sprintf("%d bytes", len(got))
	}
	var pieces []string
	b := make([]byte, 1<<16)
	for {
		k, _, err := unix.Recvfrom(s.fd, b, unix.MSG_DONTWAIT)
		switch {
		case err != nil:
			slices.Sort(pieces) // generic mode may change their order
			return fmt.Sprint(pieces)
		case k > 34 && b[12] == 8 && b[23] == 17:
			pieces = append(pieces, fmt.Sprintf("%05x+%d", binary.BigEndian.Uint16(b[20:]), binary.BigEndian.Uint16(b[16:])))
		case k > 54 && b[12] == 0x86 && b[20] == 17:
			pieces = append(pieces, fmt.Sprint(binary.BigEndian.Uint16(b[18:])))
		case k > 62 && b[12] == 0x86 && b[20] == 44 && b[54] == 17:
			pieces = append(pieces, fmt.Sprintf("%05x+%d", binary.BigEndian.Uint16(b[56:]), binary.BigEndian.Uint16(b[18:])))
		}
	}
}

// TestCutAsKernel: with each mode of IP_MTU_DISCOVER a datagram larger than the MTU of
// its link or path is refused as the kernel's, or cut into the same fragments.
func TestCutAsKernel(t *testing.T) {
	for _, fam := range families {
		for mode := unix.IP_PMTUDISC_DONT; mode <= unix.IP_PMTUDISC_OMIT; mode++ {
			t.Run(fmt.Sprint(fam.name, " mode ", mode), func(t *testing.T) { testCutAsKernel(t, fam, mode) })
		}
	}
}

func testCutAsKernel(t *testing.T, fam family, mode int) {
	var ends [2]sender
	for i := range ends {
		a := connectedUDP(t, fam, i == 0)
		level, option := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER
		if fam.name == "v6" {
			level, option = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER
		}
		raw, err := a.c.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err2 := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, mode) }); err != nil || err2 != nil {
			t.Fatal(err, err2)
		}
		ends[i] = sender{a, packetSocket(t, a.b, everything)}
	}
	compare := func(when string, sizes ...int) {
		t.Helper()
		for _, n := range sizes {
			if ours, kernels := ends[0].sent(n), ends[1].sent(n); ours != kernels || kernels == "[]" {
				t.Errorf("%s, %d bytes: %s, the kernel: %s", when, n, ours, kernels)
			}
		}
	}
	const most4, most6 = 65535 - 28, 65535 - 8
	compare("MTU 1500", 0, 1, 1452, 1453, 1472, 1473, 3000, 9000, most4, most4+1, most6, most6+1)
	big := icmpCase{typ: 3, code: 4, rest: 1400}
	if fam.name == "v6" {
		big = icmpCase{typ: 2, rest: 1400}
	}
	if ours, kernels := ends[0].outcome(big), ends[1].outcome(big); ours != kernels {
		t.Errorf("too big: %s, the kernel: %s", ours, kernels)
	}
	for i := range ends { // what the outcome sent to us is heard too
		forget(t, ends[i].fd)
	}
	compare("path's MTU 1400", 1352, 1353, 1372, 1373, 1473, 3000, 20_000)
}

// forget drops what a packet socket has heard.
func forget(t testing.TB, fd int) {
	b := make([]byte, 1)
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); {
		if _, _, err := unix.Recvfrom(fd, b, unix.MSG_DONTWAIT); err != nil {
			return
		}
	}
	t.Fatal("packets come and come")
}
