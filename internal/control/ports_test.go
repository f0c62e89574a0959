package control

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/netns"
)

func newPorts(t *testing.T, ns *lab.NS) *KernelPorts {
	t.Helper()
	p, err := NewKernelPorts(ns.Handle())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestHold(t *testing.T) {
	pair := lab.NewPair(t, lab.Options{})
	ns := pair.A
	ports := newPorts(t, ns)
	any4, any6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	addrs := []netip.Addr{{}, any4, any6, ns.Addr4, ns.Addr6, ns.Zoned(), addr("127.0.0.1"), addr("::1")}
	for _, proto := range []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
		for _, a := range addrs {
			h, err := ports.Hold(proto, netip.AddrPortFrom(a, 0))
			if err != nil || h.Port == 0 {
				t.Errorf("proto %d %v: port %d, %v", proto, a, h.Port, err)
				continue
			}
			if again, err := ports.Hold(proto, netip.AddrPortFrom(a, h.Port)); err != syscall.EADDRINUSE {
				t.Errorf("proto %d %v: held twice, %v", proto, a, err)
				again.Close()
			}
			if err := kernelBinds(ns, proto, a, h.Port); !errors.Is(err, syscall.EADDRINUSE) {
				t.Errorf("proto %d %v: the kernel gives a held port away: %v", proto, a, err)
			}
			h.Close()
			if err := kernelBinds(ns, proto, a, h.Port); err != nil {
				t.Errorf("proto %d %v: not free after Close: %v", proto, a, err)
			}
		}
		// 0.0.0.0 and :: are held apart, the zero Addr is both.
		four, err := ports.Hold(proto, netip.AddrPortFrom(any4, 7001))
		if err != nil {
			t.Fatal(err)
		}
		six, err := ports.Hold(proto, netip.AddrPortFrom(any6, 7001))
		if err != nil {
			t.Fatal(err)
		}
		six.Close()
		if _, err := ports.Hold(proto, netip.AddrPortFrom(netip.Addr{}, 7001)); err != syscall.EADDRINUSE {
			t.Errorf("proto %d: dual over IPv4: %v", proto, err)
		}
		four.Close()
	}
	for _, c := range []struct {
		a    netip.AddrPort
		want error
	}{
		{netip.AddrPortFrom(pair.B.Addr4, 80), syscall.EADDRNOTAVAIL},
		{netip.AddrPortFrom(pair.B.Addr6, 80), syscall.EADDRNOTAVAIL},
		{netip.AddrPortFrom(ns.LinkLocal.WithZone("nosuch"), 80), syscall.ENODEV},
	} {
		if h, err := ports.Hold(unix.IPPROTO_TCP, c.a); err != c.want {
			t.Errorf("%v: %v, want %v", c.a, err, c.want)
			h.Close()
		}
	}
	if _, err := ports.Hold(unix.IPPROTO_ICMP, netip.AddrPortFrom(any4, 1)); err != syscall.EPROTONOSUPPORT {
		t.Errorf("ICMP: %v", err)
	}
}

// kernelBinds tries a kernel listener, or UDP socket, on the port.
func kernelBinds(ns *lab.NS, proto uint8, a netip.Addr, port uint16) error {
	host := ""
	if a.IsValid() {
		host = a.String()
	}
	target := net.JoinHostPort(host, fmt.Sprint(port))
	if proto == unix.IPPROTO_TCP {
		l, err := ns.Listen("tcp", target)
		if err == nil {
			l.Close()
		}
		return err
	}
	c, err := ns.ListenPacket("udp", target)
	if err == nil {
		c.Close()
	}
	return err
}

// A listener of the kernel keeps its port; what it leaves in TIME-WAIT does
// not, and even then a port is held only once.
func TestHoldAfterTimeWait(t *testing.T) {
	pair := lab.NewPair(t, lab.Options{})
	a := pair.A
	ports := newPorts(t, a)
	l, err := a.Listen("tcp4", "0.0.0.0:8080")
	if err != nil {
		t.Fatal(err)
	}
	here := netip.AddrPortFrom(a.Addr4, 8080)
	if _, err := ports.Hold(unix.IPPROTO_TCP, here); err != syscall.EADDRINUSE {
		t.Fatalf("under a listener: %v", err)
	}
	c, err := pair.B.Dial("tcp4", here.String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	s.Close() // the side that closes first keeps TIME-WAIT
	io.Copy(io.Discard, c)
	c.Close()
	l.Close()
	var h Held
	eventually(t, "hold over TIME-WAIT", func() bool {
		h, err = ports.Hold(unix.IPPROTO_TCP, here)
		return err == nil
	})
	defer h.Close()
	if again, err := ports.Hold(unix.IPPROTO_TCP, here); err != syscall.EADDRINUSE {
		t.Errorf("held twice over TIME-WAIT: %v", err)
		again.Close()
	}
	if l, err := a.Listen("tcp4", here.String()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("the kernel listens on a held port: %v", err)
		l.Close()
	}
}

// The same after a client that bound its port with SO_REUSEADDR, which leaves
// the kernel's books in another state than a listener.
func TestHoldAfterClientTimeWait(t *testing.T) {
	pair := lab.NewPair(t, lab.Options{})
	a := pair.A
	ports := newPorts(t, a)
	l, err := pair.B.Listen("tcp4", "0.0.0.0:80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	here := netip.AddrPortFrom(a.Addr4, 9090)
	var c net.Conn
	d := net.Dialer{
		LocalAddr: net.TCPAddrFromAddrPort(here),
		Timeout:   time.Minute,
		Control: func(_, _ string, rc syscall.RawConn) error {
			return rc.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
		},
	}
	err = a.Do(func() error {
		c, err = d.Dial("tcp4", netip.AddrPortFrom(pair.B.Addr4, 80).String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	io.Copy(io.Discard, s)
	s.Close()
	var h Held
	eventually(t, "hold over TIME-WAIT", func() bool {
		h, err = ports.Hold(unix.IPPROTO_TCP, here)
		return err == nil
	})
	defer h.Close()
	if again, err := ports.Hold(unix.IPPROTO_TCP, here); err != syscall.EADDRINUSE {
		t.Errorf("held twice over TIME-WAIT: %v", err)
		again.Close()
	}
}

// A held UDP port keeps nothing of what arrives, and answers nothing.
func TestHeldUDPIsSilent(t *testing.T) {
	pair := lab.NewPair(t, lab.Options{})
	ports := newPorts(t, pair.A)
	h, err := ports.Hold(unix.IPPROTO_UDP, netip.AddrPort{})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	for _, to := range []netip.Addr{pair.A.Addr4, pair.A.Addr6} {
		c, err := pair.B.Dial("udp", netip.AddrPortFrom(to, h.Port).String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for range 50 {
			if _, err := c.Write(make([]byte, 1000)); err != nil {
				t.Fatalf("%v: %v", to, err)
			}
		}
		// An ICMP error would show up here.
		c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if _, err := c.Read(make([]byte, 10)); err == nil || errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%v: %v", to, err)
		}
	}
	for _, file := range []string{"udp", "udp6"} {
		queued, err := rxQueued(pair.A, file, h.Port)
		if err != nil || queued != 0 {
			t.Errorf("%s: %d bytes are queued, %v", file, queued, err)
		}
	}
}

// rxQueued reads from /proc how much a UDP socket has queued.
func rxQueued(ns *lab.NS, file string, port uint16) (n int64, err error) {
	err = ns.Do(func() error {
		b, err := os.ReadFile("/proc/thread-self/net/" + file)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) > 4 && strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) {
				_, rx, _ := strings.Cut(f[4], ":")
				q, err := strconv.ParseInt(rx, 16, 64)
				if err != nil {
					return err
				}
				n += q
			}
		}
		return nil
	})
	return n, err
}

func BenchmarkHold(b *testing.B) {
	pair := lab.NewPair(b, lab.Options{})
	for _, c := range []struct {
		name string
		ns   netns.Handle
		addr netip.Addr
	}{
		{"own namespace", netns.Handle{}, netip.MustParseAddr("127.0.0.1")},
		{"another namespace", pair.A.Handle(), pair.A.Addr4},
	} {
		b.Run(c.name, func(b *testing.B) {
			p, err := NewKernelPorts(c.ns)
			if err != nil {
				b.Fatal(err)
			}
			defer p.Close()
			for b.Loop() {
				h, err := p.Hold(unix.IPPROTO_TCP, netip.AddrPortFrom(c.addr, 0))
				if err != nil {
					b.Fatal(err)
				}
				h.Close()
			}
		})
	}
}

func TestHoldLowPort(t *testing.T) {
	pair := lab.NewPair(t, lab.Options{})
	ports := newPorts(t, pair.A)
	low := netip.AddrPortFrom(pair.A.Addr4, 80)
	err := pair.A.Do(func() error {
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var all, some [2]unix.CapUserData
		if err := unix.Capget(&hdr, &all[0]); err != nil {
			return err
		}
		some = all
		some[0].Effective &^= 1 << unix.CAP_NET_BIND_SERVICE
		if err := unix.Capset(&hdr, &some[0]); err != nil {
			return err
		}
		_, err := hold(unix.IPPROTO_TCP, low, false, false)
		if e := unix.Capset(&hdr, &all[0]); e != nil {
			return e
		}
		return err
	})
	if err != syscall.EACCES {
		t.Errorf("without privilege: %v", err)
	}
	h, err := ports.Hold(unix.IPPROTO_TCP, low)
	if err != nil || h.Port != 80 {
		t.Errorf("with privilege: %d, %v", h.Port, err)
	}
	h.Close()
}
