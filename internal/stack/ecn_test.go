package stack

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver/afxdp"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/tcp"
)

// markCE marks an IPv4 packet whose sender can hear it (RFC 3168 section 5).
func markCE(b []byte) bool {
	if len(b) < 34 || b[12] != 8 || b[13] != 0 || b[15]&3 == 0 {
		return false
	}
	b[15] |= 3
	h := b[14:34]
	h[10], h[11] = 0, 0
	binary.BigEndian.PutUint16(h[10:], ^ip.Sum(h))
	return true
}

// newMarkingWAN is a bottleneck that has room, and marks instead of dropping.
func newMarkingWAN(t *testing.T) *wan {
	return newWAN(t, 20*time.Millisecond, 20e6/8, func(w *wan) { w.queue, w.mark = 2<<20, 50e3 })
}

func (w *wan) checkMarks(t *testing.T) {
	t.Helper()
	if w.marked.Load() == 0 || w.dropped.Load() != 0 {
		t.Errorf("%d packets marked, %d dropped", w.marked.Load(), w.dropped.Load())
	}
}

// RFC 3168: we send through a bottleneck that marks, the kernel echoes.
func TestRFC3168KernelReceives(t *testing.T) {
	w := newMarkingWAN(t)
	s := vethStack(t, w.a, Balanced, afxdp.ModeNative)
	l, err := w.b.Listen("tcp", netip.AddrPortFrom(w.b.Addr4, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		k, err := l.Accept()
		if err == nil {
			io.Copy(k, k)
			k.Close()
		}
	}()
	c, err := s.DialTCP(t.Context(), netip.AddrPort{}, l.Addr().(*net.TCPAddr).AddrPort(), &TCPOptions{TCP: &tcp.Config{ECN: tcp.ECNOn}})
	if err != nil {
		t.Fatal(err)
	}
	if i, err := c.Info(); err != nil || !i.ECN {
		t.Errorf("ECN %v, %v", i.ECN, err)
	}
	transfer(t, c, 3<<20)
	w.checkMarks(t)
	if s.Stats().TCP.TCPECNReductions == 0 {
		t.Error("no echo was answered")
	}
}

// RFC 3168: the kernel asks and sends, we echo.
func TestRFC3168KernelSends(t *testing.T) {
	w := newMarkingWAN(t)
	if err := w.a.Sysctl("net.ipv4.tcp_ecn", "1"); err != nil {
		t.Fatal(err)
	}
	s := vethStack(t, w.b, Balanced, afxdp.ModeGeneric)
	l, err := s.ListenTCP(netip.AddrPortFrom(w.b.Addr4, 0), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, _, err := l.Accept()
		if err == nil {
			io.Copy(c, c)
			c.Close()
		}
	}()
	k, err := w.a.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := k.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		i, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		const ecn = 8 // TCPI_OPT_ECN
		if err != nil || i.Options&ecn == 0 {
			t.Errorf("options %#x, %v: no ECN", i.Options, err)
		}
	})
	transfer(t, k.(*net.TCPConn), 3<<20)
	w.checkMarks(t)
	if s.Stats().TCP.InCEPkts == 0 {
		t.Error("no mark arrived")
	}
}
