package onload_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// unread is a socket that nobody reads. A mark that arrives at the second socket says
// that all datagrams before it have arrived.
type unread struct {
	testing.TB
	far     *net.UDPConn
	c, mark *onload.UDPConn
	to      netip.Addr
}

// newUnread opens the two sockets on h, whose address is to, and sends from far.
func newUnread(t *testing.T, h host, to netip.Addr, far *net.UDPConn, rcvbuf int) *unread {
	t.Helper()
	address := netip.AddrPortFrom(to, 0).String()
	u := &unread{TB: t, far: far, to: to, c: listenUDP(t, h, address), mark: listenUDP(t, h, address)}
	if rcvbuf >= 0 {
		if err := u.c.SetReadBuffer(rcvbuf); err != nil {
			t.Fatal(err)
		}
	}
	return u
}

func (u *unread) send(p []byte, c *onload.UDPConn) {
	u.Helper()
	if _, err := u.far.WriteTo(p, udpAddrOf(u.to, c.LocalAddr().(*net.UDPAddr).Port)); err != nil {
		u.Fatal(err)
	}
}

// fill sends count datagrams of size bytes. Each begins with its number, in four
// bytes, if it has room.
func (u *unread) fill(size, count int) {
	u.Helper()
	msg, buf := make([]byte, size), make([]byte, 10)
	for i := range count {
		if size >= 4 {
			binary.BigEndian.PutUint32(msg, uint32(i))
		}
		u.send(msg, u.c)
		// The ring and the kernel's queue must not overflow: wait for the mark.
		if i == count-1 || i%8 == 0 || size > 4096 {
			u.send([]byte("mark"), u.mark)
			u.mark.SetReadDeadline(time.Now().Add(udpPatience))
			if _, _, err := u.mark.ReadFrom(buf); err != nil {
				u.Fatal(err)
			}
		}
	}
}

// kept reads what the socket kept of count datagrams: by its own count of those that
// it lost, the first ones.
func (u *unread) kept(size, count int) (n int) {
	u.Helper()
	lost := u.c.Drops()
	n = count - int(lost.Buffer+lost.Memory+lost.Kernel)
	buf := make([]byte, 1<<16)
	u.c.SetReadDeadline(time.Now().Add(udpPatience))
	for i := range n {
		k, err := u.c.Read(buf)
		if err != nil || k != size || size >= 4 && int(binary.BigEndian.Uint32(buf)) != i {
			u.Fatalf("datagram %d of %d: %d bytes of %d, number %d, %v", i, n, k, size, binary.BigEndian.Uint32(buf), err)
		}
	}
	u.send([]byte("end"), u.c)
	if k, err := u.c.Read(buf); string(buf[:k]) != "end" {
		u.Fatalf("more than %d datagrams: %q, %v", n, buf[:k], err)
	}
	return n
}

// TestUDPRcvbufAsKernel: a socket that nobody reads keeps at least as many datagrams
// as the kernel's, of any size and with any buffer, and counts those that it lost.
func TestUDPRcvbufAsKernel(t *testing.T) {
	pin(t)
	for _, mtu := range []int{1500, 9000} {
		// An XDP program makes the kernel's datagrams larger: it has a link without.
		ours, kernels := lab.NewPair(t, lab.Options{MTU: mtu, Neighbors: true}), lab.NewPair(t, lab.Options{MTU: mtu, Neighbors: true})
		e := vethEngine(t, ours.A, onload.Config{})
		for _, size := range []int{0, 1, 100, 500, 1000, 1100, 1400, 1472, 1473, 3000, 9000, 20000, 40000, 65507} {
			for _, rcvbuf := range []int{-1, 1, 10000, 65536, 500000} {
				count := 3
				if rcvbuf != 1 {
					// The least that a datagram of the kernel's takes is 512 bytes.
					count = max(2*rcvbuf, 212992)/(size+512) + 3
				}
				if testing.Short() && count > 150 {
					continue
				}
				k := newUnread(t, kernels.A, kernels.A.Addr4, kernelSocket(t, kernels.B.NS, kernels.B.Addr4.String()+":0"), rcvbuf)
				o := newUnread(t, e, ours.A.Addr4, kernelSocket(t, ours.B.NS, ours.B.Addr4.String()+":0"), rcvbuf)
				k.fill(size, count)
				o.fill(size, count)
				theirs, our := k.kept(size, count), o.kept(size, count)
				if our < theirs || theirs == count {
					t.Errorf("MTU %d, %d bytes, SO_RCVBUF %d, of %d: the kernel's socket kept %d, ours %d", mtu, size, rcvbuf, count, theirs, our)
				}
				if lost := o.c.Drops(); lost.Memory+lost.Kernel > 0 || !onload.PathOf(o.c).Accelerated {
					t.Errorf("MTU %d, %d bytes, SO_RCVBUF %d, of %d: lost %+v", mtu, size, rcvbuf, count, lost)
				}
				for _, c := range []*onload.UDPConn{k.c, k.mark, o.c, o.mark} {
					c.Close()
				}
			}
		}
	}
}

// TestUDPBufferOptions: SO_RCVBUF and SO_SNDBUF of a socket of ours read as the
// kernel's, for any size set, and also after it has moved to the kernel's way.
func TestUDPBufferOptions(t *testing.T) {
	p := lab.NewPair(t, lab.Options{Neighbors: true})
	e := vethEngine(t, p.A, onload.Config{})
	far := kernelSocket(t, p.B.NS, p.B.Addr4.String()+":0")
	type buffered interface {
		msgConn
		SetReadBuffer(int) error
		SetWriteBuffer(int) error
	}
	read := func(c msgConn) (v [2]int) {
		raw, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		if err := raw.Control(func(fd uintptr) {
			v[0], _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
			v[1], _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF)
		}); err != nil {
			t.Fatal(err)
		}
		return v
	}
	open := func(h host, connected bool) buffered {
		var c any
		var err error
		if connected {
			c, err = h.Dial("udp", far.LocalAddr().String())
		} else {
			c, err = h.ListenPacket("udp", p.A.Addr4.String()+":0")
		}
		if err != nil {
			t.Fatal(err)
		}
		b := c.(buffered)
		t.Cleanup(func() { b.Close() })
		return b
	}
	for _, connected := range []bool{false, true} {
		theirs, ours := open(p.A, connected), open(e, connected)
		for _, size := range []int{-1, 0, 1, 5000, 1 << 20, 1 << 30} {
			for i, c := range []buffered{theirs, ours} {
				if err := c.SetReadBuffer(size); err != nil {
					t.Error(i, err)
				}
				if err := c.SetWriteBuffer(size); err != nil {
					t.Error(i, err)
				}
			}
			if k, o := read(theirs), read(ours); k != o {
				t.Errorf("connected %v, set to %d: the kernel's %v, ours %v", connected, size, k, o)
			}
		}
		setUDP(t, ours, [3]int{unix.SOL_SOCKET, unix.SO_RCVBUF, 70000})
		setUDP(t, theirs, [3]int{unix.SOL_SOCKET, unix.SO_RCVBUF, 70000})
		if k, o := read(theirs), read(ours); k != o {
			t.Errorf("connected %v: the kernel's %v, ours %v", connected, k, o)
		}
		if path := onload.PathOf(ours); !path.Accelerated {
			t.Fatal(path)
		}
		// The kernel's way keeps them.
		setUDP(t, ours, [3]int{unix.SOL_SOCKET, unix.SO_PRIORITY, 5})
		if k, o := read(theirs), read(ours); k != o || onload.PathOf(ours).Accelerated {
			t.Errorf("connected %v, on the kernel's way %v: the kernel's %v, ours %v", connected, !onload.PathOf(ours).Accelerated, k, o)
		}
	}
}
