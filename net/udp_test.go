package onload_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// exchange sends a datagram from a to b by every method, and checks what
// arrives.
func exchange(t *testing.T, a, b *onload.UDPConn, to *net.UDPAddr, wantFrom string) {
	t.Helper()
	ap := to.AddrPort()
	buf := make([]byte, 100)
	for i, send := range []func([]byte) (int, error){
		func(p []byte) (int, error) { return a.WriteTo(p, to) },
		func(p []byte) (int, error) { return a.WriteToUDP(p, to) },
		func(p []byte) (int, error) { return a.WriteToUDPAddrPort(p, ap) },
		func(p []byte) (int, error) { n, _, err := a.WriteMsgUDP(p, nil, to); return n, err },
		func(p []byte) (int, error) { n, _, err := a.WriteMsgUDPAddrPort(p, nil, ap); return n, err },
	} {
		msg := fmt.Sprintf("message %d", i)
		if n, err := send([]byte(msg)); n != len(msg) || err != nil {
			t.Fatalf("send %d: %d, %v", i, n, err)
		}
		b.SetReadDeadline(time.Now().Add(patience))
		var n int
		var from string
		var err error
		switch i {
		case 0:
			var a net.Addr
			n, a, err = b.ReadFrom(buf)
			from = fmt.Sprint(a)
		case 1:
			var a *net.UDPAddr
			n, a, err = b.ReadFromUDP(buf)
			from = a.String()
		case 2:
			var a netip.AddrPort
			n, a, err = b.ReadFromUDPAddrPort(buf)
			from = netip.AddrPortFrom(a.Addr().Unmap(), a.Port()).String()
		case 3:
			var a *net.UDPAddr
			n, _, _, a, err = b.ReadMsgUDP(buf, nil)
			from = a.String()
		case 4:
			var a netip.AddrPort
			n, _, _, a, err = b.ReadMsgUDPAddrPort(buf, nil)
			from = netip.AddrPortFrom(a.Addr().Unmap(), a.Port()).String()
		}
		if err != nil || string(buf[:n]) != msg {
			t.Fatalf("receive %d: %q, %v", i, buf[:n], err)
		}
		if host, _, _ := net.SplitHostPort(from); host != wantFrom {
			t.Errorf("receive %d: from %s, want %s", i, from, wantFrom)
		}
	}
}

func listenUDP(t *testing.T, h host, address string) *onload.UDPConn {
	t.Helper()
	c, err := h.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if k, ok := c.(*net.UDPConn); ok { // a namespace's: wrapped for its methods
		f, err := k.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		w, err := onload.FilePacketConn(f)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { w.Close() })
		return w.(*onload.UDPConn)
	}
	return c.(*onload.UDPConn)
}

func withPort(ip string, c net.PacketConn) *net.UDPAddr {
	return &net.UDPAddr{IP: net.ParseIP(ip), Port: c.LocalAddr().(*net.UDPAddr).Port}
}

func TestUDPMemory(t *testing.T) {
	a, b := memoryPair(t)
	for _, bind := range []string{addrB + ":0", ":0"} {
		from, to := listenUDP(t, a, addrA+":0"), listenUDP(t, b, bind)
		exchange(t, from, to, withPort(addrB, to), addrA)
	}
	from, to := listenUDP(t, a, ":0"), listenUDP(t, b, addrB6+":0")
	exchange(t, from, to, withPort("fd00::2", to), "fd00::1")
}

// TestUDPVeth: one socket talks to accelerated and to local peers.
func TestUDPVeth(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	self, peer := p.A.Addr4.String(), p.B.Addr4.String()
	for _, bind := range []string{":0", "0.0.0.0:0", self + ":0"} {
		t.Run(bind, func(t *testing.T) {
			c := listenUDP(t, e, bind)
			if path := onload.PathOf(c); !path.Accelerated {
				t.Fatal(path)
			}
			far, near := listenUDP(t, p.B, peer+":0"), listenUDP(t, p.A, self+":0")
			exchange(t, c, far, withPort(peer, far), self)
			exchange(t, far, c, withPort(self, c), peer)
			exchange(t, c, near, withPort(self, near), self)
			exchange(t, near, c, withPort(self, c), self)
			if stats := e.Stats()[p.A.If]; stats.UDPOut == 0 || stats.UDPIn == 0 {
				t.Errorf("the stack saw nothing: %+v", stats)
			}
		})
	}
	t.Run("dual", func(t *testing.T) {
		c := listenUDP(t, e, ":0")
		far := listenUDP(t, p.B, "["+p.B.Addr6.String()+"]:0")
		exchange(t, c, far, withPort(p.B.Addr6.String(), far), p.A.Addr6.String())
		exchange(t, far, c, withPort(p.A.Addr6.String(), c), p.B.Addr6.String())
	})
	t.Run("connected", func(t *testing.T) {
		far := listenUDP(t, p.B, peer+":0")
		c, err := e.Dial("udp", far.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if path := onload.PathOf(c); !path.Accelerated {
			t.Error(path)
		}
		buf := make([]byte, 10)
		if _, err := c.Write([]byte("ping")); err != nil {
			t.Fatal(err)
		}
		n, from, err := far.ReadFrom(buf)
		if err != nil || string(buf[:n]) != "ping" || from.String() != c.LocalAddr().String() {
			t.Fatalf("%q from %v, %v", buf[:n], from, err)
		}
		if _, err := far.WriteTo([]byte("pong"), from); err != nil {
			t.Fatal(err)
		}
		// Another peer's datagram is not for a connected socket.
		other := listenUDP(t, p.B, peer+":0")
		if _, err := other.WriteTo([]byte("intruder"), from); err != nil {
			t.Fatal(err)
		}
		if n, err = c.Read(buf); err != nil || string(buf[:n]) != "pong" {
			t.Fatalf("%q, %v", buf[:n], err)
		}
		c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if n, err = c.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q, %v", buf[:n], err)
		}
	})
}

func TestUDPTruncated(t *testing.T) {
	a, b := memoryPair(t)
	from, to := listenUDP(t, a, ":0"), listenUDP(t, b, ":0")
	for range 2 {
		if _, err := from.WriteTo([]byte("12345"), withPort(addrB, to)); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 3)
	n, oobn, flags, _, err := to.ReadMsgUDP(buf, nil)
	if n != 3 || oobn != 0 || flags&syscall.MSG_TRUNC == 0 || err != nil {
		t.Errorf("%d, %d, %#x, %v", n, oobn, flags, err)
	}
	if n, _, err := to.ReadFrom(buf); n != 3 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

func TestUDPControlMessages(t *testing.T) {
	a, b := memoryPair(t)
	from, to := listenUDP(t, a, ":0"), listenUDP(t, b, ":0")
	if _, _, err := from.WriteMsgUDP([]byte("x"), cmsg(unix.SOL_SOCKET, unix.SO_MARK, 4, 1), withPort(addrB, to)); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}

func TestUDPZeroLength(t *testing.T) {
	a, b := memoryPair(t)
	from, to := listenUDP(t, a, ":0"), listenUDP(t, b, ":0")
	if _, err := from.WriteTo(nil, withPort(addrB, to)); err != nil {
		t.Fatal(err)
	}
	if n, _, err := to.ReadFrom(make([]byte, 3)); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// A socket on all addresses gets what is sent to everybody on the link
// (RFC 1122, 4.1.3.4): the kernel's half of it does.
func TestUDPBroadcast(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	c := listenUDP(t, e, ":0")
	if path := onload.PathOf(c); !path.Accelerated {
		t.Fatal(path)
	}
	far := listenUDP(t, p.B, p.B.Addr4.String()+":0")
	subnet := p.A.Addr4.As4()
	subnet[3] = 255
	for _, to := range []string{netip.AddrFrom4(subnet).String(), "255.255.255.255"} {
		if _, err := far.WriteTo([]byte(to), withPort(to, c)); err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(patience))
		buf := make([]byte, 100)
		if n, _, err := c.ReadFrom(buf); string(buf[:n]) != to || err != nil {
			t.Errorf("to %s: %q, %v", to, buf[:n], err)
		}
	}
}

// A socket on all addresses has the link-local ones too (RFC 4007, 6); they
// are the kernel's.
func TestLinkLocal(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	at := p.A.LinkLocal.WithZone(p.B.If)
	t.Run("tcp", func(t *testing.T) {
		l, err := e.Listen("tcp", ":0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			if c, err := l.Accept(); err == nil {
				c.Write([]byte("hello"))
				c.Close()
			}
		}()
		var c net.Conn
		if err := p.B.Do(func() (err error) {
			c, err = net.DialTimeout("tcp6", netip.AddrPortFrom(at, uint16(l.Addr().(*net.TCPAddr).Port)).String(), patience)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if b, err := io.ReadAll(c); string(b) != "hello" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("udp", func(t *testing.T) {
		c := listenUDP(t, e, ":0")
		far := listenUDP(t, p.B, ":0")
		to := &net.UDPAddr{IP: at.AsSlice(), Zone: at.Zone(), Port: c.LocalAddr().(*net.UDPAddr).Port}
		if _, err := far.WriteTo([]byte("ping"), to); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 10)
		c.SetReadDeadline(time.Now().Add(patience))
		n, from, err := c.ReadFrom(buf)
		if err != nil || string(buf[:n]) != "ping" {
			t.Fatalf("%q, %v", buf[:n], err)
		}
		if _, err := c.WriteTo([]byte("pong"), from); err != nil {
			t.Fatal(err)
		}
		far.SetReadDeadline(time.Now().Add(patience))
		if n, _, err = far.ReadFrom(buf); err != nil || string(buf[:n]) != "pong" {
			t.Errorf("%q, %v", buf[:n], err)
		}
	})
}

// TestUDPSegmented: bound and connected sockets read the datagrams of UDP_SEGMENT one
// by one. Over a virtual link a kernel peer sends them in one packet of any size.
func TestUDPSegmented(t *testing.T) {
	for _, mode := range []onload.Mode{onload.ModeGeneric, onload.ModeNative} {
		for _, mtu := range []int{1500, 9000, 65535} {
			t.Run(fmt.Sprint(mode, "/", mtu), func(t *testing.T) {
				p := lab.NewPair(t, lab.Options{MTU: mtu})
				e := vethEngine(t, p.A, onload.Config{Mode: mode})
				for _, family := range []struct{ self, peer string }{
					{p.A.Addr4.String(), p.B.Addr4.String()}, {p.A.Addr6.String(), p.B.Addr6.String()},
				} {
					far := listenUDP(t, p.B, net.JoinHostPort(family.peer, "0"))
					bound := listenUDP(t, e, ":0")
					c, err := e.Dial("udp", far.LocalAddr().String())
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					connected := c.(*onload.UDPConn)
					for _, to := range []*onload.UDPConn{bound, connected} {
						at := withPort(family.self, to)
						for _, s := range []struct{ seg, total int }{
							{400, 1200}, {600, 1200}, {100, 1400}, {700, 701}, {1, 64}, {1000, 10000}, {1200, 8400}, {1200, 36000}, {1400, 60000}, {0, 100},
						} {
							segmented(t, far, to, at, s.seg, s.total)
						}
						if path := onload.PathOf(to); !path.Accelerated {
							t.Error(path)
						}
					}
				}
				if stats := e.Stats()[p.A.If]; stats.UDPIn == 0 {
					t.Errorf("the stack saw nothing: %+v", stats)
				}
			})
		}
	}
}

// segmented sends total bytes from the kernel's socket from to the socket to, at
// the address at, to be cut into datagrams of seg bytes (0: they are one).
func segmented(t *testing.T, from, to *onload.UDPConn, at *net.UDPAddr, seg, total int) {
	t.Helper()
	out := make([]byte, total)
	rand.NewChaCha8([32]byte{byte(seg), byte(total)}).Read(out)
	var oob []byte
	if seg > 0 {
		oob = binary.NativeEndian.AppendUint64(nil, uint64(unix.CmsgLen(2)))
		oob = binary.NativeEndian.AppendUint32(oob, unix.SOL_UDP)
		oob = binary.NativeEndian.AppendUint32(oob, unix.UDP_SEGMENT)
		oob = binary.NativeEndian.AppendUint64(oob, uint64(seg))
	} else {
		seg = total
	}
	if _, _, err := from.WriteMsgUDP(out, oob, at); err != nil {
		t.Fatalf("%d of %d: %v", seg, total, err)
	}
	buf := make([]byte, 1<<16)
	for off := 0; off < total; off += seg {
		want := out[off:min(off+seg, total)]
		to.SetReadDeadline(time.Now().Add(time.Minute))
		if n, err := to.Read(buf); err != nil || !bytes.Equal(buf[:n], want) {
			t.Fatalf("%d of %d to %v, at %d: %d bytes, %v", seg, total, to.LocalAddr(), off, n, err)
		}
	}
}

// Read into nothing returns at once, as net's does, and takes no datagram.
func TestUDPReadNothing(t *testing.T) {
	a, b := memoryPair(t)
	l, err := b.ListenPacket("udp", addrB+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := a.Dial("udp", l.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if n, err := c.Read(nil); n != 0 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := l.WriteTo([]byte("x"), c.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 10)
	for _, p := range [][]byte{nil, buf} {
		if n, err := c.Read(p); n != min(len(p), 1) || err != nil {
			t.Errorf("into %d bytes: %d, %v", len(p), n, err)
		}
	}
	c.Close()
	if _, err := c.Read(nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
