package repair

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/tcp"
)

const patience = time.Minute

// wire is two hosts whose kernels speak TCP. Connections of a change hands.
type wire struct {
	*lab.Pair
	t testing.TB
}

func newWire(t testing.TB) *wire { return &wire{lab.NewPair(t, lab.Options{Neighbors: true}), t} }

// deaf has the host of l drop all that arrives by l until the returned function is
// called: so its kernel resets no connection that nobody has at present.
func (w *wire) deaf(l *lab.NS) (hear func()) {
	w.t.Helper()
	var x link.Link
	err := l.Do(func() error {
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "GPL",
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 1 /* XDP_DROP */), asm.Return()}})
		if err != nil {
			return err
		}
		defer p.Close()
		x, err = link.AttachXDP(link.XDPOptions{Program: p, Interface: l.Index, Flags: link.XDPGenericMode})
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return func() {
		if x != nil {
			_ = x.Close()
			x = nil
		}
	}
}

// connect returns the ends of a connection: a descriptor in A, and a net.Conn in B.
func (w *wire) connect(six bool) (fd int, peer *net.TCPConn) {
	w.t.Helper()
	l, err := w.B.Listen("tcp", netip.AddrPortFrom(addrOf(w.B, six), 0).String())
	if err != nil {
		w.t.Fatal(err)
	}
	defer l.Close()
	c, err := w.A.Dial("tcp", l.Addr().String())
	if err != nil {
		w.t.Fatal(err)
	}
	defer c.Close()
	p, err := l.Accept()
	if err != nil {
		w.t.Fatal(err)
	}
	peer = p.(*net.TCPConn)
	w.t.Cleanup(func() { peer.Close() })
	f, err := c.(*net.TCPConn).File()
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	fd, err = unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		w.t.Fatal(err)
	}
	return fd, peer
}

func addrOf(n *lab.NS, six bool) netip.Addr {
	if six {
		return n.Addr6
	}
	return n.Addr4
}

// conn wraps a descriptor of A, which it takes.
func (w *wire) conn(fd int) *net.TCPConn {
	w.t.Helper()
	f := os.NewFile(uintptr(fd), "")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		w.t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// hand describes the connection of fd, drops it in silence, and restores it. The host
// must be deaf meanwhile.
func (w *wire) hand(fd int) (now int, c *tcp.Snapshot) {
	w.t.Helper()
	err := w.A.Do(func() (err error) {
		if c, err = Dump(fd); err != nil {
			return err
		}
		if err = Drop(fd); err != nil {
			return err
		}
		if err = unix.Close(fd); err != nil {
			return err
		}
		now, err = Restore(c, nil)
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return now, c
}

// await waits until ok.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("in vain: ", what)
		}
	}
}

func stateOf(t testing.TB, fd int) tcp.State {
	i, err := socket(fd).info()
	if err != nil {
		t.Fatal(err)
	}
	return kernelStates[i.state]
}

// count is n bytes of a pattern that shows where each belongs.
func count(from, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte((from + i) * 7 >> 3)
	}
	return b
}

// wantStream reads all of r, until its end, which must be count(0, n).
func wantStream(t testing.TB, whose string, r io.Reader, n int) {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil || string(b) != string(count(0, n)) {
		t.Errorf("%s: %d bytes, %v; want %d", whose, len(b), err, n)
	}
}

// stuff writes to fd until nothing more is taken, and returns how many bytes were.
func stuff(t testing.TB, fd int) (n int) {
	t.Helper()
	for {
		k, err := unix.Write(fd, count(n, 16<<10))
		if errors.Is(err, unix.EAGAIN) {
			return n
		}
		if err != nil {
			t.Fatal(err)
		}
		n += k
	}
}
