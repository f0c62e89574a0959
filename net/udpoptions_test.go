package onload_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// udpSocket is what both sockets of TestUDPOptionsAsKernel have.
type udpSocket interface {
	msgConn
	Write(b []byte) (int, error)
	SetReadBuffer(int) error
	SetWriteBuffer(int) error
}

// udpOption is an option of a UDP socket, and values that it may get. The last one is
// the default, where that can be set.
type udpOption struct {
	name       string
	level, opt int
	values     []int
}

// udpOptions are of sockets of the family.
func udpOptions(six bool) []udpOption {
	const buffer = 212992 / 2 // doubled, it is the default
	o := []udpOption{
		{"SO_RCVBUF", unix.SOL_SOCKET, unix.SO_RCVBUF, []int{1, 10000, 70000, buffer}},
		{"SO_SNDBUF", unix.SOL_SOCKET, unix.SO_SNDBUF, []int{1, 10000, 70000, buffer}},
		{"SO_BROADCAST", unix.SOL_SOCKET, unix.SO_BROADCAST, []int{1, 0}},
		{"SO_RXQ_OVFL", unix.SOL_SOCKET, unix.SO_RXQ_OVFL, []int{1, 0}},
	}
	if six {
		return append(o,
			udpOption{"IPV6_TCLASS", unix.IPPROTO_IPV6, unix.IPV6_TCLASS, []int{0x48, 0xb8, 0}},
			udpOption{"IPV6_UNICAST_HOPS", unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, []int{9, 200, -1}},
			udpOption{"IPV6_RECVHOPLIMIT", unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, []int{1, 0}})
	}
	return append(o,
		udpOption{"IP_TOS", unix.IPPROTO_IP, unix.IP_TOS, []int{0x48, 0xb8, 0}},
		udpOption{"IP_TTL", unix.IPPROTO_IP, unix.IP_TTL, []int{9, 200, -1}},
		udpOption{"IP_RECVTTL", unix.IPPROTO_IP, unix.IP_RECVTTL, []int{1, 0}})
}

// udpSeen are the options of c in words.
func udpSeen(t *testing.T, c udpSocket, six bool) (s string) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		for _, o := range udpOptions(six) {
			v, err := unix.GetsockoptInt(int(fd), o.level, o.opt)
			s += fmt.Sprintln(o.name, v, err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	return s
}

// openOptioned opens a socket of the kernel's and one of ours, dialled to far or bound
// to a port of p.A, by a Control hook that sets the options.
func openOptioned(t *testing.T, p *lab.Pair, e *onload.Engine, far, bound string, hook [][3]int) (both [2]udpSocket) {
	t.Helper()
	set := control(hook...)
	var c [2]any
	var errs [2]error
	if bound != "" {
		errs[0] = p.A.Do(func() (err error) {
			c[0], err = (&net.ListenConfig{Control: set}).ListenPacket(t.Context(), "udp", bound)
			return err
		})
		c[1], errs[1] = (&onload.ListenConfig{Engine: e, Control: set}).ListenPacket(t.Context(), "udp", bound)
	} else {
		errs[0] = p.A.Do(func() (err error) {
			c[0], err = (&net.Dialer{Control: set}).Dial("udp", far)
			return err
		})
		c[1], errs[1] = (&onload.Dialer{Engine: e, Control: set}).Dial("udp", far)
	}
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	for i := range c {
		both[i] = c[i].(udpSocket)
		t.Cleanup(func() { both[i].Close() })
	}
	return both
}

// TestUDPOptionsAsKernel: options that a Control hook, methods and RawConn.Control set, in any
// order, are those of the kernel's socket, and what both send is the same. The kernel's
// way keeps them.
func TestUDPOptionsAsKernel(t *testing.T) {
	p := lab.NewPair(t, lab.Options{Neighbors: true})
	e := vethEngine(t, p.A, onload.Config{})
	for seed := range 8 {
		six, dialled := seed&1 != 0, seed&2 != 0
		near, to := p.A.Addr4.String(), p.B.Addr4.String()
		if six {
			near, to = p.A.Addr6.String(), p.B.Addr6.String()
		}
		far := kernelSocket(t, p.B.NS, net.JoinHostPort(to, "0"))
		setUDP(t, far, [3]int{unix.IPPROTO_IP, unix.IP_RECVTTL, 1}, [3]int{unix.IPPROTO_IP, unix.IP_RECVTOS, 1})
		if six {
			setUDP(t, far, [3]int{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1}, [3]int{unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1})
		}
		r := rand.New(rand.NewPCG(uint64(seed), 3))
		var hook [][3]int
		for _, o := range udpOptions(six) {
			if seed >= 4 || r.IntN(2) == 0 {
				hook = append(hook, [3]int{o.level, o.opt, o.values[r.IntN(len(o.values))]})
			}
		}
		bound := net.JoinHostPort(near, "0")
		if dialled {
			bound = ""
		}
		both := openOptioned(t, p, e, far.LocalAddr().String(), bound, hook)
		did := []string{fmt.Sprint("the hook's ", hook)}
		compare := func() {
			t.Helper()
			if k, o := udpSeen(t, both[0], six), udpSeen(t, both[1], six); k != o {
				t.Fatalf("seed %d, after %v: the kernel's socket has\n%sours\n%s", seed, did, k, o)
			}
			if k, o := sentWith(t, both[0], far, dialled), sentWith(t, both[1], far, dialled); !bytes.Equal(k, o) {
				t.Fatalf("seed %d, after %v: the kernel sends with %x, we with %x", seed, did, k, o)
			}
		}
		if r.IntN(2) == 0 {
			compare() // else methods come before the first Control
		}
		for range 40 {
			step := r.Uint64()
			for i, c := range both { // the same random choices for both
				what := randomUDPOption(t, c, six, rand.New(rand.NewPCG(step, 4)))
				if i == 0 {
					did = append(did, what)
				}
			}
			compare()
		}
		if path := onload.PathOf(both[1]); !path.Accelerated {
			t.Fatal(path)
		}
		for _, c := range both {
			setUDP(t, c, [3]int{unix.SOL_SOCKET, unix.SO_PRIORITY, 5})
		}
		did = append(did, "SO_PRIORITY 5")
		if compare(); onload.PathOf(both[1]).Accelerated {
			t.Fatal("SO_PRIORITY is the kernel's")
		}
	}
}

// sentWith sends from c to far, and returns what the kernel says there of TOS and TTL.
func sentWith(t *testing.T, c udpSocket, far *net.UDPConn, dialled bool) []byte {
	t.Helper()
	var err error
	if dialled {
		_, err = c.Write([]byte("x"))
	} else {
		_, err = c.WriteTo([]byte("x"), far.LocalAddr())
	}
	if err != nil {
		t.Fatal(err)
	}
	oob := make([]byte, 200)
	far.SetReadDeadline(time.Now().Add(udpPatience))
	_, n, _, _, err := far.ReadMsgUDP(make([]byte, 10), oob)
	if err != nil {
		t.Fatal(err)
	}
	return oob[:n]
}

// randomUDPOption sets one of c's options, and says which.
func randomUDPOption(t *testing.T, c udpSocket, six bool, r *rand.Rand) (what string) {
	t.Helper()
	size := []int{1, 8000, 50000, 106496}[r.IntN(4)]
	var err error
	switch r.IntN(5) {
	case 0:
		what, err = fmt.Sprint("SetReadBuffer ", size), c.SetReadBuffer(size)
	case 1:
		what, err = fmt.Sprint("SetWriteBuffer ", size), c.SetWriteBuffer(size)
	default:
		o := udpOptions(six)[r.IntN(len(udpOptions(six)))]
		v := o.values[r.IntN(len(o.values))]
		what = fmt.Sprint(o.name, " ", v)
		setUDP(t, c, [3]int{o.level, o.opt, v})
	}
	if err != nil {
		t.Fatal(what, err)
	}
	return what
}

// TestUDPBufferDefault: a receive buffer that Control sets back to the default keeps
// what the kernel's keeps.
func TestUDPBufferDefault(t *testing.T) {
	pin(t)
	ours, kernels := lab.NewPair(t, lab.Options{Neighbors: true}), lab.NewPair(t, lab.Options{Neighbors: true})
	e := vethEngine(t, ours.A, onload.Config{})
	var kept [2]int
	const size, count = 1400, 150
	for i, u := range []*unread{
		newUnread(t, kernels.A, kernels.A.Addr4, kernelSocket(t, kernels.B.NS, kernels.B.Addr4.String()+":0"), -1),
		newUnread(t, e, ours.A.Addr4, kernelSocket(t, ours.B.NS, ours.B.Addr4.String()+":0"), -1),
	} {
		for _, bytes := range []int{10000, 212992 / 2} {
			setUDP(t, u.c, [3]int{unix.SOL_SOCKET, unix.SO_RCVBUF, bytes})
		}
		u.fill(size, count)
		kept[i] = u.kept(size, count)
	}
	if kept[1] < kept[0] {
		t.Errorf("of %d the kernel's socket kept %d, ours %d", count, kept[0], kept[1])
	}
}
