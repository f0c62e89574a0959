package onload_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptrace"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// resolverOf answers every name with addrs.
func resolverOf(t *testing.T, addrs ...string) *onload.Resolver {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) != 1 {
				continue
			}
			q := m.Questions[0]
			m.Response, m.Authoritative, m.Additionals = true, true, nil
			if len(addrs) == 0 {
				m.RCode = dnsmessage.RCodeNameError
			}
			for _, a := range addrs {
				ip := netip.MustParseAddr(a)
				hdr := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class, TTL: 1}
				switch {
				case q.Type == dnsmessage.TypeA && ip.Is4():
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: hdr, Body: &dnsmessage.AResource{A: ip.As4()}})
				case q.Type == dnsmessage.TypeAAAA && ip.Is6():
					m.Answers = append(m.Answers, dnsmessage.Resource{Header: hdr, Body: &dnsmessage.AAAAResource{AAAA: ip.As16()}})
				}
			}
			if out, err := m.Pack(); err == nil {
				pc.WriteTo(out, from)
			}
		}
	}()
	return &onload.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", pc.LocalAddr().String())
	}}
}

// isIPv6 tells of a frame on the in-memory link.
func isIPv6(_ uint64, frame []byte) bool { return frame[12] == 0x86 && frame[13] == 0xdd }

// deafPair is a memory pair where IPv6 packets to b vanish.
func deafPair(t *testing.T) (a, b *onload.Engine) {
	t.Helper()
	quiet := onload.Config{Logger: zap.NewNop()}
	a, b, err := onload.NewMemoryPair(
		onload.MemoryConfig{Config: quiet, Faults: onload.Faults{Drop: isIPv6}}, onload.MemoryConfig{Config: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// serve accepts until the test ends.
func serve(t *testing.T, e host, address string) (port string) {
	t.Helper()
	ln, err := e.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
		}
	}()
	return portOf(ln)
}

// TestDialNames: the error is that of the first address, a family that the
// network excludes is not tried, and one that never answers has its time.
func TestDialNames(t *testing.T) {
	a, b := deafPair(t)
	port := serve(t, b, addrB+":0")
	d := onload.Dialer{Engine: a, Resolver: resolverOf(t, "fd00::2", addrB), Timeout: patience}
	c, err := d.Dial("tcp4", "both.example.:"+port)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err = d.Dial("tcp4", "both.example.:9"); !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), addrB+":9") {
		t.Error(err)
	}
	d.Timeout = 200 * time.Millisecond
	var ne net.Error
	if _, err = d.Dial("tcp6", "both.example.:"+port); !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("tcp6: %v", err)
	}
	d.Resolver, d.Timeout = resolverOf(t), patience
	var dns *net.DNSError
	if _, err = d.Dial("tcp", "none.example.:9"); !errors.As(err, &dns) || !dns.IsNotFound {
		t.Error(err)
	}
}

// TestSeveralAddresses: one after the other, sharing the time.
func TestSeveralAddresses(t *testing.T) {
	a, b := deafPair(t)
	port := serve(t, b, addrB+":0")
	d := onload.Dialer{Engine: a, Resolver: resolverOf(t, "10.0.0.77", addrB), Timeout: 10 * time.Second}
	c, err := d.Dial("tcp", "two.example.:"+port)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

func TestDialCancelChannel(t *testing.T) {
	a, _ := deafPair(t)
	cancel := make(chan struct{})
	time.AfterFunc(30*time.Millisecond, func() { close(cancel) })
	_, err := (&onload.Dialer{Engine: a, Cancel: cancel}).Dial("tcp", addrB6+":9")
	if !errors.Is(err, context.Canceled) || err.Error() != "dial tcp [fd00::2]:9: operation was canceled" {
		t.Error(err)
	}
}

func TestDialLocalAddr(t *testing.T) {
	a, b := memoryPair(t)
	port := serve(t, b, addrB+":0")
	d := onload.Dialer{Engine: a, LocalAddr: &net.TCPAddr{IP: net.ParseIP(addrA), Port: 4321}}
	c, err := d.Dial("tcp", addrB+":"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got := c.LocalAddr().String(); got != addrA+":4321" {
		t.Error(got)
	}
	tc, err := new(onload.Dialer).DialTCP(context.Background(), "udp", netip.AddrPort{}, netip.MustParseAddrPort("10.0.0.2:1"))
	if err == nil || tc != nil || !strings.Contains(err.Error(), "unknown network udp") {
		t.Error(err)
	}
	tc, err = (&onload.Dialer{Engine: a}).DialTCP(context.Background(), "tcp", netip.AddrPort{}, netip.MustParseAddrPort(addrB+":"+port))
	if err != nil {
		t.Fatal(err)
	}
	tc.Close()
	u, err := (&onload.Dialer{Engine: a}).DialUDP(context.Background(), "udp", netip.AddrPort{}, netip.MustParseAddrPort(addrB+":"+port))
	if err != nil {
		t.Fatal(err)
	}
	u.Close()
}

// TestDialControl: options set by a hook on the shadow socket count, and those
// that we cannot follow have the kernel connect.
func TestDialControl(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	to := p.B.Addr4.String() + ":" + serve(t, p.B, p.B.Addr4.String()+":0")
	for _, tt := range []struct {
		name   string
		set    func(fd int) error
		reason string
	}{
		{"user timeout", func(fd int) error {
			return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 5000)
		}, ""},
		{"buffers", func(fd int) error {
			return errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 65536), unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 65536))
		}, ""},
		{"linger", func(fd int) error {
			return unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		}, ""},
		{"pacing", func(fd int) error {
			return unix.SetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE, 1e6)
		}, ""},
		{"mark", func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, 7) }, "SO_MARK"},
		{"TOS", func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TOS, 0xb8) }, ""},
		{"TTL", func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, 9) }, ""},
		{"transparent", func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TRANSPARENT, 1) }, "IP_TRANSPARENT"},
		{"errors", func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVERR, 1) }, "IP_RECVERR"},
		{"timestamps", func(fd int) error {
			return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, unix.SOF_TIMESTAMPING_RX_HARDWARE|unix.SOF_TIMESTAMPING_RAW_HARDWARE)
		}, "SO_TIMESTAMPING"},
		{"device", func(fd int) error { return unix.BindToDevice(fd, p.A.If) }, "SO_BINDTODEVICE"},
		{"bind", func(fd int) error { return unix.Bind(fd, &unix.SockaddrInet4{Addr: p.A.Addr4.As4()}) }, "bound"},
	} {
		for _, network := range []string{"tcp", "udp"} {
			if network == "udp" && tt.name == "user timeout" {
				continue
			}
			var seen string
			d := onload.Dialer{Engine: e, ControlContext: func(_ context.Context, network, address string, c syscall.RawConn) (err error) {
				seen = network + " " + address
				if cerr := c.Control(func(fd uintptr) { err = tt.set(int(fd)) }); cerr != nil {
					return cerr
				}
				return err
			}}
			c, err := d.Dial(network, to)
			if err != nil {
				t.Errorf("%s %s: %v", network, tt.name, err)
				continue
			}
			if path := onload.PathOf(c); path.Accelerated != (tt.reason == "") || !strings.Contains(path.Reason, tt.reason) {
				t.Errorf("%s %s: %v", network, tt.name, path)
			}
			if c, ok := c.(*onload.TCPConn); ok && tt.name == "pacing" {
				if i, err := c.Info(); err != nil || i.MaxPacingRate != 1e6 {
					t.Errorf("pacing: %d, %v", i.MaxPacingRate, err)
				}
			}
			if seen != network+"4 "+to {
				t.Errorf("hook: %q", seen)
			}
			c.Close()
		}
	}
	failure := errors.New("refused by the hook")
	d := onload.Dialer{Engine: e, Control: func(string, string, syscall.RawConn) error { return failure }}
	if _, err := d.Dial("tcp", to); !errors.Is(err, failure) {
		t.Error(err)
	}
}

// TestTrace: the hooks of net/http/httptrace see the connection, and none of
// the resolver's own.
func TestTrace(t *testing.T) {
	a, b := memoryPair(t)
	port := serve(t, b, addrB+":0")
	var mu sync.Mutex
	var events []string
	note := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		events = append(events, fmt.Sprintf(format, args...))
	}
	ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
		DNSStart:     func(i httptrace.DNSStartInfo) { note("dns %s", i.Host) },
		DNSDone:      func(i httptrace.DNSDoneInfo) { note("dns done %v", i.Err) },
		ConnectStart: func(network, addr string) { note("connect %s %s", network, addr) },
		ConnectDone:  func(network, addr string, err error) { note("connected %s %s %v", network, addr, err) },
	})
	c, err := (&onload.Dialer{Engine: a, Resolver: resolverOf(t, addrB)}).DialContext(ctx, "tcp", "host.example.:"+port)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	mu.Lock()
	defer mu.Unlock()
	to := addrB + ":" + port
	want := []string{"dns host.example.", "dns done <nil>", "connect tcp " + to, "connected tcp " + to + " <nil>"}
	if !slices.Equal(events, want) {
		t.Errorf("%q\nwant %q", events, want)
	}
}

// TestMultipath: Multipath TCP is the kernel's.
func TestMultipath(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	d := onload.Dialer{Engine: e}
	d.SetMultipathTCP(true)
	c, err := d.Dial("tcp", p.B.Addr4.String()+":"+serve(t, p.B, p.B.Addr4.String()+":0"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if path := onload.PathOf(c); path.Accelerated || !strings.Contains(path.Reason, "Multipath") || !d.MultipathTCP() {
		t.Error(path)
	}
}

// TestKeepAlive: net's default is on; the settings can be changed in part.
func TestKeepAlive(t *testing.T) {
	a, b := memoryPair(t)
	c, _ := tcpPipe(t, a, b)
	for i, err := range []error{
		c.SetKeepAlive(false), c.SetKeepAlive(true), c.SetKeepAlivePeriod(time.Minute),
		c.SetKeepAliveConfig(onload.KeepAliveConfig{Enable: true, Idle: -1, Interval: time.Second, Count: 3}),
		c.SetReadBuffer(1 << 16), c.SetWriteBuffer(1 << 16), c.SetNoDelay(false), c.SetNoDelay(true), c.SetLinger(1), c.SetLinger(-1),
	} {
		if err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
}

// TestDialAsksOneFamily: a name dialed by tcp4 is not looked up in IPv6, which
// may get no answer.
func TestDialAsksOneFamily(t *testing.T) {
	a, b := memoryPair(t)
	port := serve(t, b, addrB+":0")
	var asked atomic.Int32
	r := &onload.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		c, s := net.Pipe()
		go answerA(s, net.ParseIP(addrB), &asked)
		return c, nil
	}}
	c, err := (&onload.Dialer{Engine: a, Resolver: r, Timeout: patience}).Dial("tcp4", "service.test.:"+port)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if n := asked.Load(); n != 0 {
		t.Errorf("asked %d times for IPv6 addresses", n)
	}
}

// answerA answers one question over a stream (RFC 1035 section 4.2.2) if it is
// for IPv4 addresses, and counts the others.
func answerA(c net.Conn, ip net.IP, others *atomic.Int32) {
	defer c.Close()
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return
	}
	b := make([]byte, int(size[0])<<8|int(size[1]))
	if _, err := io.ReadFull(c, b); err != nil {
		return
	}
	var m dnsmessage.Message
	if m.Unpack(b) != nil || len(m.Questions) != 1 {
		return
	}
	q := m.Questions[0]
	m.Response, m.Additionals = true, nil
	if q.Type != dnsmessage.TypeA {
		others.Add(1)
		return
	}
	m.Answers = []dnsmessage.Resource{{
		Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class},
		Body:   &dnsmessage.AResource{A: [4]byte(ip.To4())},
	}}
	b, err := m.Pack()
	if err != nil {
		return
	}
	_, _ = c.Write(append([]byte{byte(len(b) >> 8), byte(len(b))}, b...))
}
