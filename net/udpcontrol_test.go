package onload_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

const udpPatience = time.Minute

// setUDP sets socket options by SyscallConn: level, option, value each.
func setUDP(t testing.TB, c syscall.Conn, options ...[3]int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if cerr := raw.Control(func(fd uintptr) {
		for _, o := range options {
			if e := unix.SetsockoptInt(int(fd), o[0], o[1], o[2]); e != nil {
				err = fmt.Errorf("%v: %w", o, e)
			}
		}
	}); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
}

// kernelSocket is a socket of h's kernel.
func kernelSocket(t *testing.T, h *lab.NS, address string) *net.UDPConn {
	t.Helper()
	c, err := h.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.UDPConn)
}

type msgConn interface {
	syscall.Conn
	net.PacketConn
	ReadMsgUDP(b, oob []byte) (n, oobn, flags int, addr *net.UDPAddr, err error)
	WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error)
}

var askAll4 = [][3]int{
	{unix.IPPROTO_IP, unix.IP_PKTINFO, 1}, {unix.IPPROTO_IP, unix.IP_RECVTTL, 1}, {unix.IPPROTO_IP, unix.IP_RECVTOS, 1},
	{unix.IPPROTO_IP, unix.IP_RECVORIGDSTADDR, 1},
}

var askAll6 = [][3]int{
	{unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1}, {unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1}, {unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1},
	{unix.IPPROTO_IPV6, unix.IPV6_RECVORIGDSTADDR, 1},
}

// TestUDPControlReceived: an accelerated socket gives the control messages that
// the kernel's gives for the same datagrams, byte for byte.
func TestUDPControlReceived(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	for _, tt := range []struct {
		name, bind, from, to string
		options              [][3]int
	}{
		{"IPv4", p.A.Addr4.String(), p.B.Addr4.String(), p.A.Addr4.String(), askAll4},
		{"IPv6", p.A.Addr6.String(), p.B.Addr6.String(), p.A.Addr6.String(), askAll6},
		{"both, IPv4", "", p.B.Addr4.String(), p.A.Addr4.String(), append(askAll4[:len(askAll4):len(askAll4)], askAll6...)},
		{"both, IPv6", "", p.B.Addr6.String(), p.A.Addr6.String(), append(askAll4[:len(askAll4):len(askAll4)], askAll6...)},
		{"pktinfo of IPv6 for IPv4", "", p.B.Addr4.String(), p.A.Addr4.String(), askAll6[:1]},
		{"none", "", p.B.Addr4.String(), p.A.Addr4.String(), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ours := listenUDP(t, e, net.JoinHostPort(tt.bind, "0"))
			theirs := kernelSocket(t, p.A.NS, net.JoinHostPort(tt.bind, "0"))
			far := kernelSocket(t, p.B.NS, net.JoinHostPort(tt.from, "0"))
			setUDP(t, far, [3]int{unix.IPPROTO_IP, unix.IP_TTL, 17}, [3]int{unix.IPPROTO_IP, unix.IP_TOS, 0x2a})
			if strings.Contains(tt.from, ":") {
				setUDP(t, far, [3]int{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 18}, [3]int{unix.IPPROTO_IPV6, unix.IPV6_TCLASS, 0x2b})
			}
			setUDP(t, ours, tt.options...)
			setUDP(t, theirs, tt.options...)
			if path := onload.PathOf(ours); !path.Accelerated {
				t.Fatal(path)
			}
			for _, room := range []int{500, 50, 40, 20, 10, 0} {
				var oob [2][]byte
				var flags [2]int
				for i, c := range []msgConn{theirs, ours} {
					if _, err := far.WriteTo([]byte("hello"), withPort(tt.to, c)); err != nil {
						t.Fatal(err)
					}
					c.SetReadDeadline(time.Now().Add(udpPatience))
					b := make([]byte, 100)
					o := make([]byte, room)
					n, oobn, f, from, err := c.ReadMsgUDP(b, o)
					if err != nil || string(b[:n]) != "hello" || from.Port != far.LocalAddr().(*net.UDPAddr).Port {
						t.Fatalf("%q from %v, %v", b[:n], from, err)
					}
					// The port in the original address is each socket's own.
					port := c.LocalAddr().(*net.UDPAddr).Port
					oob[i] = bytes.ReplaceAll(o[:oobn], []byte{byte(port >> 8), byte(port)}, []byte("PP"))
					flags[i] = f
				}
				if flags[0] != flags[1] || room == 500 && !bytes.Equal(oob[0], oob[1]) || len(oob[0]) != len(oob[1]) {
					t.Errorf("room %d: the kernel gives %#x %x, onload %#x %x", room, flags[0], oob[0], flags[1], oob[1])
				}
			}
		})
	}
}

// TestUDPTimestamps: a datagram is received between its sending and its reading, and
// each option says so in the messages that the kernel's socket gives.
func TestUDPTimestamps(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	far := kernelSocket(t, p.B.NS, p.B.Addr4.String()+":0")
	const software = unix.SOF_TIMESTAMPING_SOFTWARE | unix.SOF_TIMESTAMPING_RX_SOFTWARE
	ns, us, both := [3]int{unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1}, [3]int{unix.SOL_SOCKET, unix.SO_TIMESTAMP, 1}, [3]int{unix.SOL_SOCKET, unix.SO_TIMESTAMPING, software}
	awaitStamps(t, far, kernelSocket(t, p.A.NS, p.A.Addr4.String()+":0"), both)
	for _, options := range [][][3]int{{ns}, {us}, {both}, {ns, both}, {both, us}, {{unix.SOL_SOCKET, unix.SO_TIMESTAMPING, unix.SOF_TIMESTAMPING_RX_SOFTWARE}}} {
		var kinds [2]string
		for i, c := range []msgConn{listenUDP(t, e, ":0"), kernelSocket(t, p.A.NS, ":0")} {
			setUDP(t, c, options...)
			before := time.Now()
			if _, err := far.WriteTo([]byte("x"), withPort(p.A.Addr4.String(), c)); err != nil {
				t.Fatal(err)
			}
			oob := make([]byte, 200)
			c.SetReadDeadline(time.Now().Add(udpPatience))
			_, oobn, _, _, err := c.ReadMsgUDP(make([]byte, 1), oob)
			after := time.Now()
			if err != nil {
				t.Fatal(err)
			}
			ms, err := unix.ParseSocketControlMessage(oob[:oobn])
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range ms {
				kinds[i] += fmt.Sprint(m.Header.Type, ":", len(m.Data), " ")
				fraction := int64(1)
				if m.Header.Type == unix.SCM_TIMESTAMP {
					fraction = 1000
				}
				at := time.Unix(int64(binary.NativeEndian.Uint64(m.Data)), fraction*int64(binary.NativeEndian.Uint64(m.Data[8:])))
				// The clock of the system may be slewed meanwhile, and that of the stack is not.
				const slack = time.Second
				if at.Before(before.Add(-slack)) || at.After(after.Add(slack)) {
					t.Errorf("%v: message %d: %v, not from %v to %v", options, m.Header.Type, at, before, after)
				}
				if rest := m.Data[16:]; !bytes.Equal(rest, make([]byte, len(rest))) {
					t.Errorf("%v: message %d has more than a time: %x", options, m.Header.Type, rest)
				}
			}
			if i == 0 && !onload.PathOf(c).Accelerated {
				t.Error(options, onload.PathOf(c))
			}
		}
		if kinds[0] != kinds[1] {
			t.Errorf("%v: messages %q, the kernel's %q", options, kinds[0], kinds[1])
		}
	}
	c := listenUDP(t, e, ":0")
	setUDP(t, c, [3]int{unix.SOL_SOCKET, unix.SO_TIMESTAMPING, software | unix.SOF_TIMESTAMPING_RX_HARDWARE})
	if path := onload.PathOf(c); path.Reason != "the program set SO_TIMESTAMPING" {
		t.Error("stamps of the NIC:", path)
	}
}

// awaitStamps waits until the kernel stamps what it receives. It begins a while after
// the first socket has asked, c, and goes on until c is closed.
func awaitStamps(t *testing.T, far, c *net.UDPConn, option [3]int) {
	t.Helper()
	setUDP(t, c, option)
	c.SetReadDeadline(time.Now().Add(udpPatience))
	for oobn := 0; oobn == 0; {
		if _, err := far.WriteTo([]byte("x"), c.LocalAddr()); err != nil {
			t.Fatal(err)
		}
		var err error
		if _, oobn, _, _, err = c.ReadMsgUDP(make([]byte, 1), make([]byte, 200)); err != nil {
			t.Fatal("the kernel does not stamp: ", err)
		}
	}
}

// TestUDPControlSent: datagrams sent with control messages arrive as the kernel's
// do.
func TestUDPControlSent(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	second4, second6 := netip.MustParseAddr("10.77.9.9"), netip.MustParseAddr("fd77:9::9")
	for _, a := range []netip.Prefix{netip.PrefixFrom(second4, 32), netip.PrefixFrom(second6, 128)} {
		if err := p.A.AddAddr(a); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.B.AddRoute(netip.PrefixFrom(second4, 32), p.A.Addr4); err != nil {
		t.Fatal(err)
	}
	if err := p.B.AddRoute(netip.PrefixFrom(second6, 128), p.A.Addr6); err != nil {
		t.Fatal(err)
	}
	e := vethEngine(t, p.A, onload.Config{})
	ours, theirs := listenUDP(t, e, ":0"), kernelSocket(t, p.A.NS, ":0")
	far4 := kernelSocket(t, p.B.NS, p.B.Addr4.String()+":0")
	setUDP(t, far4, askAll4[1:3]...)
	far6 := kernelSocket(t, p.B.NS, "["+p.B.Addr6.String()+"]:0")
	setUDP(t, far6, askAll6[1:3]...)
	for _, tt := range []struct {
		name string
		far  *net.UDPConn
		oob  []byte
		size int
	}{
		{"source", far4, (&ipv4.ControlMessage{Src: second4.AsSlice()}).Marshal(), 10},
		{"source, IPv6", far6, (&ipv6.ControlMessage{Src: second6.AsSlice()}).Marshal(), 10},
		{"hop limit and class", far6, (&ipv6.ControlMessage{HopLimit: 9, TrafficClass: 0xba}).Marshal(), 10},
		{"TOS and TTL", far4, append(cmsg(unix.SOL_IP, unix.IP_TOS, 4, 0x2a), cmsg(unix.SOL_IP, unix.IP_TTL, 4, 5)...), 10},
		{"ECN", far4, cmsg(unix.SOL_IP, unix.IP_TOS, 1, 2), 1000},
		{"no ECN", far4, nil, 1000},
		{"segments", far4, cmsg(unix.SOL_UDP, unix.UDP_SEGMENT, 2, 700), 1500},
		{"segments, IPv6", far6, append(cmsg(unix.SOL_UDP, unix.UDP_SEGMENT, 2, 1200), cmsg(unix.SOL_IPV6, unix.IPV6_TCLASS, 4, 1)...), 36000},
		{"not one of ours", far4, (&ipv4.ControlMessage{Src: net.IPv4(192, 0, 2, 1)}).Marshal(), 10},
		{"segments larger than the MTU", far4, cmsg(unix.SOL_UDP, unix.UDP_SEGMENT, 2, 3000), 9000},
		{"too many segments", far4, cmsg(unix.SOL_UDP, unix.UDP_SEGMENT, 2, 10), 9000},
		{"cut short", far4, cmsg(unix.SOL_IP, unix.IP_TOS, 4, 0)[:15], 10},
		{"by a link", far4, (&ipv4.ControlMessage{IfIndex: p.A.Index}).Marshal(), 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := make([]byte, tt.size)
			for i := range out {
				out[i] = byte(i ^ i>>8)
			}
			var got [2]string
			for i, c := range []msgConn{theirs, ours} {
				n, oobn, err := c.WriteMsgUDP(out, tt.oob, tt.far.LocalAddr().(*net.UDPAddr))
				if err != nil {
					var errno syscall.Errno
					errors.As(err, &errno)
					got[i] = errno.Error()
					continue
				}
				got[i] = fmt.Sprint(n, " ", oobn)
				for have := 0; have < tt.size; {
					b, oob := make([]byte, 1<<16), make([]byte, 100)
					tt.far.SetReadDeadline(time.Now().Add(udpPatience))
					n, oobn, _, from, err := tt.far.ReadMsgUDP(b, oob)
					if err != nil || !bytes.Equal(b[:n], out[have:have+n]) {
						t.Fatalf("%d bytes at %d, %v", n, have, err)
					}
					have += n
					got[i] += fmt.Sprintf("; %d from %v: %x", n, from.IP, oob[:oobn])
				}
			}
			if got[0] != got[1] {
				t.Errorf("the kernel: %s; onload: %s", got[0], got[1])
			}
			if path := onload.PathOf(ours); !path.Accelerated {
				t.Fatal(path)
			}
		})
	}
}

// cmsg is a control message of an integer of size bytes.
func cmsg(level, typ, size, v int) []byte {
	b := binary.NativeEndian.AppendUint64(nil, uint64(unix.CmsgLen(size)))
	b = binary.NativeEndian.AppendUint32(b, uint32(level))
	b = binary.NativeEndian.AppendUint32(b, uint32(typ))
	b = binary.NativeEndian.AppendUint64(b, uint64(v))
	return b[:unix.CmsgSpace(size)]
}

// TestUDPOptions: options set on a live socket are followed, or make the kernel its
// carrier. Datagrams that nobody has read by then are not lost, and blocked calls
// go on.
func TestUDPOptions(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	for _, family := range []struct{ self, peer string }{{p.A.Addr4.String(), p.B.Addr4.String()}, {p.A.Addr6.String(), p.B.Addr6.String()}} {
		for _, kind := range []string{"bound", "wildcard", "connected"} {
			t.Run(kind+" "+family.self, func(t *testing.T) {
				far := kernelSocket(t, p.B.NS, net.JoinHostPort(family.peer, "0"))
				var c *onload.UDPConn
				switch kind {
				case "bound":
					c = listenUDP(t, e, net.JoinHostPort(family.self, "0"))
				case "wildcard":
					c = listenUDP(t, e, ":0")
				default:
					conn, err := e.Dial("udp", far.LocalAddr().String())
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { conn.Close() })
					c = conn.(*onload.UDPConn)
				}
				at := withPort(family.self, c)
				hops := [3]int{unix.IPPROTO_IP, unix.IP_TTL, 33}
				if strings.Contains(family.self, ":") {
					hops = [3]int{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 33}
				}
				setUDP(t, far, askAll4[1])
				if hops[0] == unix.IPPROTO_IPV6 {
					setUDP(t, far, askAll6[1])
				}
				setUDP(t, c, hops, [3]int{unix.SOL_SOCKET, unix.SO_RCVBUF, 50000})
				send := func(msg string) {
					t.Helper()
					var err error
					if kind == "connected" {
						_, err = c.Write([]byte(msg))
					} else {
						_, err = c.WriteTo([]byte(msg), far.LocalAddr())
					}
					if err != nil {
						t.Fatal(err)
					}
					b, oob := make([]byte, 100), make([]byte, 100)
					far.SetReadDeadline(time.Now().Add(udpPatience))
					n, oobn, _, from, err := far.ReadMsgUDP(b, oob)
					if err != nil || string(b[:n]) != msg || !from.IP.Equal(at.IP) || from.Port != at.Port {
						t.Fatalf("%q from %v, %v", b[:n], from, err)
					}
					if ms, err := unix.ParseSocketControlMessage(oob[:oobn]); err != nil || len(ms) != 1 || ms[0].Data[0] != 33 {
						t.Fatalf("the hop limit is not followed: %v, %v", ms, err)
					}
				}
				receive := func(msg string) {
					t.Helper()
					b := make([]byte, 100)
					c.SetReadDeadline(time.Now().Add(udpPatience))
					n, err := c.Read(b)
					if err != nil || string(b[:n]) != msg {
						t.Fatalf("%q, %v", b[:n], err)
					}
				}
				answer := func(msg string) {
					t.Helper()
					if _, err := far.WriteTo([]byte(msg), at); err != nil {
						t.Fatal(err)
					}
				}
				send("accelerated")
				if path := onload.PathOf(c); !path.Accelerated {
					t.Fatal(path)
				}
				answer("first")
				receive("first")
				answer("unread 1")
				answer("unread 2")
				// SO_PRIORITY is the kernel's business.
				setUDP(t, c, [3]int{unix.SOL_SOCKET, unix.SO_PRIORITY, 5})
				if path := onload.PathOf(c); path.Accelerated || path.Reason != "the program set SO_PRIORITY" {
					t.Fatal(path)
				}
				receive("unread 1")
				receive("unread 2")
				send("by the kernel")
				answer("second")
				receive("second")
				if err := c.Close(); err != nil {
					t.Error(err)
				}
				if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
					t.Error(err)
				}
			})
		}
	}
	// A blocked reader goes on with the kernel.
	far := kernelSocket(t, p.B.NS, p.B.Addr4.String()+":0")
	c := listenUDP(t, e, ":0")
	c.SetReadDeadline(time.Now().Add(udpPatience))
	got := make(chan string, 1)
	go func() {
		b := make([]byte, 100)
		n, _, err := c.ReadFrom(b)
		got <- fmt.Sprint(string(b[:n]), err)
	}()
	time.Sleep(10 * time.Millisecond) // most likely it waits; the test holds in any case
	setUDP(t, c, [3]int{unix.SOL_SOCKET, unix.SO_PRIORITY, 5})
	if _, err := far.WriteTo([]byte("late"), withPort(p.A.Addr4.String(), c)); err != nil {
		t.Fatal(err)
	}
	if s := <-got; s != "late<nil>" {
		t.Error(s)
	}
}

// TestUDPBatch: batches through x/net's messages, and its PacketConns over the
// socket: their options, and their batches, which go by the descriptor.
func TestUDPBatch(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	far := kernelSocket(t, p.B.NS, p.B.Addr4.String()+":0")
	c := listenUDP(t, e, p.A.Addr4.String()+":0")
	x := ipv4.NewPacketConn(c)
	if err := errors.Join(x.SetControlMessage(ipv4.FlagTTL|ipv4.FlagDst, true), x.SetTTL(44), x.SetTOS(0x28), x.SetMulticastTTL(3)); err != nil {
		t.Fatal(err)
	}
	if ttl, err := x.TTL(); ttl != 44 || err != nil {
		t.Error(ttl, err)
	}
	if path := onload.PathOf(c); !path.Accelerated {
		t.Fatal(path)
	}
	type batcher interface {
		ReadBatch([]ipv4.Message, int) (int, error)
		WriteBatch([]ipv4.Message, int) (int, error)
	}
	const count = 20
	for _, b := range []batcher{c, x} {
		out, in := make([]ipv4.Message, count), make([]ipv4.Message, count+5)
		for i := range out {
			out[i] = ipv4.Message{Buffers: [][]byte{{byte(i)}, []byte("payload")}, Addr: far.LocalAddr()}
		}
		for i := range in {
			in[i] = ipv4.Message{Buffers: [][]byte{make([]byte, 100)}, OOB: ipv4.NewControlMessage(ipv4.FlagTTL | ipv4.FlagDst)}
		}
		for sent := 0; sent < count; {
			n, err := b.WriteBatch(out[sent:], 0)
			if err != nil {
				t.Fatal(err)
			}
			sent += n
		}
		for i := range count {
			buf := make([]byte, 100)
			far.SetReadDeadline(time.Now().Add(udpPatience))
			n, from, err := far.ReadFrom(buf)
			if err != nil || n != 8 || buf[0] != byte(i) || from.String() != c.LocalAddr().String() {
				t.Fatalf("%d: %q from %v, %v", i, buf[:n], from, err)
			}
			if _, err := far.WriteTo(buf[:n], from); err != nil {
				t.Fatal(err)
			}
		}
		c.SetReadDeadline(time.Now().Add(udpPatience))
		for have := 0; have < count; {
			n, err := b.ReadBatch(in[have:], 0)
			if err != nil {
				t.Fatal(err)
			}
			for i := have; i < have+n; i++ {
				m := &in[i]
				var cm ipv4.ControlMessage
				if err := cm.Parse(m.OOB[:m.NN]); err != nil || cm.TTL != 64 || !cm.Dst.Equal(p.A.Addr4.AsSlice()) {
					t.Errorf("%d: %v, %v", i, &cm, err)
				}
				if m.N != 8 || m.Buffers[0][0] != byte(i) || m.Addr.String() != far.LocalAddr().String() {
					t.Errorf("%d: %d bytes %x from %v", i, m.N, m.Buffers[0][:m.N], m.Addr)
				}
			}
			have += n
		}
	}
	if path := onload.PathOf(c); path.Accelerated || !strings.Contains(path.Reason, "RawConn") {
		t.Error(path)
	}
}
