package onload

import (
	"context"
	"errors"
	"math"
	"math/bits"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/tcp"
)

func TestMergeKeepAlive(t *testing.T) {
	old := tcp.KeepAlive{Idle: time.Minute, Interval: 2 * time.Minute, Count: 5}
	for _, tt := range []struct {
		c    net.KeepAliveConfig
		want tcp.KeepAlive
	}{
		{net.KeepAliveConfig{Enable: true}, tcp.KeepAlive{Enable: true, Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 9}},
		{net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1}, tcp.KeepAlive{Enable: true, Idle: time.Minute, Interval: 2 * time.Minute, Count: 5}},
		{net.KeepAliveConfig{Idle: 1500 * time.Millisecond, Interval: time.Second, Count: 3}, tcp.KeepAlive{Idle: 2 * time.Second, Interval: time.Second, Count: 3}},
	} {
		if got := mergeKeepAlive(old, tt.c); got != tt.want {
			t.Errorf("%+v: %+v, want %+v", tt.c, got, tt.want)
		}
	}
}

func TestTCPConfig(t *testing.T) {
	e, err := New(Config{RcvBuf: 1 << 16, Congestion: "newreno"})
	if err != nil {
		t.Fatal(err)
	}
	got := e.tcpConfig(0, KeepAliveConfig{})
	want := tcp.Config{RcvBuf: 1 << 16, Congestion: "newreno", NoDelay: true,
		KeepAlive: tcp.KeepAlive{Enable: true, Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 9}}
	if *got != want {
		t.Errorf("%+v, want %+v", *got, want)
	}
	if got := e.tcpConfig(-1, KeepAliveConfig{}); got.KeepAlive.Enable {
		t.Errorf("%+v", got.KeepAlive)
	}
	o := options{rcvBuf: 1, sndBuf: 2, userTimeout: 3, congestion: "cubic", keepAlive: &tcp.KeepAlive{Enable: true, Count: 4}}
	o.apply(got, true)
	want = tcp.Config{RcvBuf: 1, SndBuf: 2, UserTimeout: 3, Congestion: "cubic", NoDelay: true, KeepAlive: *o.keepAlive}
	if *got != want {
		t.Errorf("%+v, want %+v", *got, want)
	}
}

// TestSockopts: what a hook sets on a socket of either family and type comes
// out as what we follow, or as the option that only the kernel can.
func TestSockopts(t *testing.T) {
	sec := func(n int) *int { return &n }
	type fields = options
	for _, tt := range []struct {
		name       string
		level, opt int
		v          any // int, uint64, string
		want       fields
		on         string // networks that have it; "": all
	}{
		{"buffer", unix.SOL_SOCKET, unix.SO_RCVBUF, 100000, fields{rcvBuf: 100000}, ""},
		{"linger", unix.SOL_SOCKET, unix.SO_LINGER, unix.Linger{Onoff: 1, Linger: 5}, fields{linger: sec(5)}, ""},
		{"pacing", unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE, uint64(1e6), fields{pacing: 1e6}, ""},
		{"port", unix.SOL_SOCKET, unix.SO_REUSEPORT, 1, fields{reusePort: true}, ""},
		{"user timeout", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 1500, fields{userTimeout: 1500 * time.Millisecond}, "tcp"},
		{"defer", unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, 3, fields{deferAccept: 3 * time.Second}, "tcp"},
		{"idle", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 30, fields{keepAlive: &tcp.KeepAlive{Idle: 30 * time.Second, Interval: 75 * time.Second, Count: 9}}, "tcp"},
		{"SYNs", unix.IPPROTO_TCP, unix.TCP_SYNCNT, 2, fields{synRetries: 2}, "tcp"},
		{"FIN-WAIT-2", unix.IPPROTO_TCP, unix.TCP_LINGER2, 7, fields{finWait2: 7 * time.Second}, "tcp"},
		{"no FIN-WAIT-2", unix.IPPROTO_TCP, unix.TCP_LINGER2, -1, fields{finWait2: -time.Second}, "tcp"},
		{"MSS", unix.IPPROTO_TCP, unix.TCP_MAXSEG, 1000, fields{maxSeg: 1000}, "tcp"},
		{"clamp", unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP, 8192, fields{windowClamp: 8192}, "tcp"},
		{"reno", unix.IPPROTO_TCP, unix.TCP_CONGESTION, "reno", fields{congestion: "newreno"}, "tcp"},
		{"no cookie", unix.IPPROTO_TCP, unix.TCP_FASTOPEN_NO_COOKIE, 1, fields{noCookie: true}, "tcp"},
		{"TOS", unix.IPPROTO_IP, unix.IP_TOS, 0xb8, fields{ip: stack.IPOptions{TOS: 0xb8}}, ""},
		{"TOS and its priority", unix.IPPROTO_IP, unix.IP_TOS, 0x10, fields{ip: stack.IPOptions{TOS: 0x10}}, ""},
		{"TTL", unix.IPPROTO_IP, unix.IP_TTL, 3, fields{ip: stack.IPOptions{TTL: 3}}, ""},
		{"TCLASS", unix.IPPROTO_IPV6, unix.IPV6_TCLASS, 0xb8, fields{ip: stack.IPOptions{TrafficClass: 0xb8}}, "6"},
		{"hops", unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 255, fields{ip: stack.IPOptions{HopLimit: 255}}, "6"},
		{"no hops", unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 0, fields{kernel: "a Control hook set IPV6_UNICAST_HOPS"}, "6"},
		{"small clamp", unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP, 2000, fields{kernel: "a Control hook set TCP_WINDOW_CLAMP"}, "tcp"},
		{"priority", unix.SOL_SOCKET, unix.SO_PRIORITY, 5, fields{kernel: "a Control hook set SO_PRIORITY"}, ""},
		{"V6ONLY", unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1, fields{only6: true}, "6"},
		{"busy poll", unix.SOL_SOCKET, unix.SO_BUSY_POLL, 50, fields{}, ""},
		{"broadcast", unix.SOL_SOCKET, unix.SO_BROADCAST, 1, fields{}, ""},
		{"quick", unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0, fields{}, "tcp"},
		{"no delay", unix.IPPROTO_TCP, unix.TCP_NODELAY, 0, fields{}, "tcp"},
		{"no port", unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1, fields{}, ""},
	} {
		e, err := New(Config{})
		if err != nil {
			t.Fatal(err)
		}
		for _, network := range []string{"tcp4", "tcp6", "udp4", "udp6"} {
			if !strings.Contains(network, tt.on) {
				continue
			}
			o, err := e.shadow(t.Context(), func(_ context.Context, _, _ string, c syscall.RawConn) (err error) {
				c.Control(func(fd uintptr) {
					switch v := tt.v.(type) {
					case int:
						err = unix.SetsockoptInt(int(fd), tt.level, tt.opt, v)
					case uint64:
						err = unix.SetsockoptUint64(int(fd), tt.level, tt.opt, v)
					case string:
						err = unix.SetsockoptString(int(fd), tt.level, tt.opt, v)
					case unix.Linger:
						err = unix.SetsockoptLinger(int(fd), tt.level, tt.opt, &v)
					}
				})
				return err
			}, network, "")
			if err != nil {
				t.Errorf("%s %s: %v", network, tt.name, err)
			} else if !reflect.DeepEqual(o, tt.want) {
				t.Errorf("%s %s: %+v, want %+v", network, tt.name, o, tt.want)
			}
		}
	}
}

// TestSockoptsKernel: a hook that sets an option that only the kernel has gets
// a connection of the kernel's, and PathOf names the option.
func TestSockoptsKernel(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e, err := New(Config{NetNS: p.A.Path, Interfaces: []string{p.A.If}, Frames: 1024, RingSize: 256, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	index := e.Status()[0].Index
	far := map[string]string{}
	for network, addr := range map[string]netip.Addr{"tcp4": p.B.Addr4, "tcp6": p.B.Addr6} {
		l, err := p.B.Listen(network, netip.AddrPortFrom(addr, 0).String())
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		far[network], far["udp"+network[3:]] = l.Addr().String(), l.Addr().String()
	}
	special := map[string]any{ // what to set; 1 is not valid, or not enough
		"SO_BINDTODEVICE":     p.A.If,
		"SO_ATTACH_FILTER":    attachFilter,
		"SO_RCVLOWAT":         2,
		"SO_TIMESTAMPING":     unix.SOF_TIMESTAMPING_RX_SOFTWARE,
		"SO_TXTIME":           "\x00\x00\x00\x00\x02\x00\x00\x00",
		"UDP_ENCAP":           unix.UDP_ENCAP_ESPINUDP,
		"UDP_SEGMENT":         1000,
		"IP_OPTIONS":          "\x01\x01\x01\x00",
		"IP_MTU_DISCOVER":     unix.IP_PMTUDISC_DO,
		"IP_UNICAST_IF":       int(bits.ReverseBytes32(uint32(index))),
		"IP_LOCAL_PORT_RANGE": 50000<<16 | 40000,
		"IPV6_UNICAST_IF":     int(bits.ReverseBytes32(uint32(index))),
		"IPV6_MTU_DISCOVER":   unix.IPV6_PMTUDISC_DO,
		"IPV6_DSTOPTS":        "\x00\x00\x01\x04\x00\x00\x00\x00",
	}
	// The whole kernel remembers that a socket had one of these.
	lasting := map[string]bool{"TCP_TX_DELAY": true, "IP_MINTTL": true, "IPV6_MINHOPCOUNT": true}
	done := map[string]bool{}
	for i := range sockopts {
		x := &sockopts[i]
		if x.follow != nil || lasting[x.name] {
			continue
		}
		set := func(fd int) error {
			switch v := special[x.name].(type) {
			case int:
				return unix.SetsockoptInt(fd, x.level, x.opt, v)
			case string:
				return unix.SetsockoptString(fd, x.level, x.opt, v)
			case func(fd int) error:
				return v(fd)
			}
			return unix.SetsockoptInt(fd, x.level, x.opt, 1)
		}
		for _, network := range []string{"tcp4", "tcp6", "udp4", "udp6"} {
			var refused error
			d := Dialer{Engine: e, Control: func(_, _ string, c syscall.RawConn) error {
				return c.Control(func(fd uintptr) { refused = set(int(fd)) })
			}}
			c, err := d.Dial(network, far[network])
			if err != nil {
				t.Errorf("%s %s: %v", network, x.name, err)
				continue
			}
			c.Close()
			if path := PathOf(c); refused != nil {
				continue // this kernel, or this kind of socket, has it not
			} else if path.Reason != "a Control hook set "+x.name {
				t.Errorf("%s %s: %v", network, x.name, path)
			}
			done[x.name] = true
		}
	}
	for i := range sockopts {
		if x := &sockopts[i]; x.follow == nil && !done[x.name] {
			t.Logf("%s cannot, or may not, be set here", x.name)
		}
	}
	if len(done) < 45 {
		t.Errorf("only %d options could be set", len(done))
	}
}

// attachFilter attaches a filter that takes all.
func attachFilter(fd int) error {
	all := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0xffff}
	return unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &all})
}

// TestOptionsApply: what was followed is in the connection's configuration.
func TestOptionsApply(t *testing.T) {
	o := options{fastKeys: tcp.FastOpenKeys{N: 1}, noCookie: true, synRetries: 2, maxSeg: 1000, finWait2: -time.Second, windowClamp: 9000}
	for _, tt := range []struct{ rcvBuf, want int }{{0, 9000}, {5000, 5000}, {1 << 20, 9000}} {
		o.rcvBuf = tt.rcvBuf
		var c tcp.Config
		if o.apply(&c, false); c != (tcp.Config{FastOpenKeys: o.fastKeys, FastOpenNoCookie: true, SYNRetries: 2, MaxSeg: 1000, FinWait2: -time.Second, RcvBuf: tt.want}) {
			t.Errorf("%+v", c)
		}
	}
}

// What the kernel's struct tcp_info means, on a state of a bulk transfer.
func TestInfoOf(t *testing.T) {
	k := unix.TCPInfo{
		State: 8, Ca_state: 3, Retransmits: 2, Options: tcpiSACK | tcpiWScale | tcpiECN | tcpiSYNData, Rto: 250000, Rtt: 20000, Rttvar: 1000,
		Min_rtt: 15000, Snd_mss: 1000, Snd_cwnd: 10, Snd_ssthresh: 7, Unacked: 12, Sacked: 3, Lost: 2, Retrans: 3,
		Bytes_sent: 23000, Bytes_retrans: 3000, Bytes_acked: 8001, Notsent_bytes: 5000, Snd_wnd: 20000,
		Pacing_rate: math.MaxUint64, Max_pacing_rate: math.MaxUint64, Busy_time: 7,
	}
	(*[8]byte)(unsafe.Pointer(&k))[6] = 7<<4 | 9
	(*[8]byte)(unsafe.Pointer(&k))[7] = 1
	i := infoOf(&k)
	i.Limit = limitOf(&k, &i)
	want := TCPInfo{
		State: tcp.CloseWait, Recovery: "recovery", Retransmits: 2, SACK: true, ECN: true, FastOpened: true, SendScale: 9, RecvScale: 7, SendMSS: 1000,
		RTO: 250 * time.Millisecond, RTT: 20 * time.Millisecond, RTTVar: time.Millisecond, MinRTT: 15 * time.Millisecond,
		Cwnd: 10000, Ssthresh: 7000, SendWindow: 20000, Unsent: 5000, InFlight: 11999, SACKed: 3000, Lost: 2000,
		BytesSent: 23000, BytesRetrans: 3000, BytesAcked: 8001, BytesDelivered: 11001, BusyTime: 7 * time.Microsecond,
		RateAppLimited: true, Limit: LimitCwnd,
	}
	if i != want {
		t.Errorf("%+v\nwant %+v", i, want)
	}
	for _, x := range []struct {
		change func(k *unix.TCPInfo)
		want   TCPLimit
	}{
		{func(k *unix.TCPInfo) { k.Snd_wnd = 12000 }, LimitReceiver},
		{func(k *unix.TCPInfo) { k.Notsent_bytes = 0 }, LimitApplication},
		{func(k *unix.TCPInfo) { k.Notsent_bytes, k.Unacked, k.Sacked, k.Lost, k.Retrans = 0, 0, 0, 0, 0 }, LimitIdle},
		{func(k *unix.TCPInfo) { k.Snd_cwnd, k.Max_pacing_rate = 100, 1e6 }, LimitPacing},
		{func(k *unix.TCPInfo) { k.Snd_cwnd = 100 }, LimitApplication},
	} {
		k := k
		x.change(&k)
		i := infoOf(&k)
		if got := limitOf(&k, &i); got != x.want {
			t.Errorf("limited by %v, want %v: %+v", got, x.want, i)
		}
	}
}

func TestRouteCache(t *testing.T) {
	var c routeCache
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")
	if _, ok := c.get(a, 1); ok {
		t.Error("an empty cache knows")
	}
	c.put(a, 1, kernelShard)
	c.put(b, 1, 2)
	if s, ok := c.get(b, 1); !ok || s != 2 {
		t.Errorf("%d, %v", s, ok)
	}
	if _, ok := c.get(b, 2); ok {
		t.Error("an answer outlived a change")
	}
	for i := range 256 { // all slots are within the table
		c.put(netip.AddrFrom4([4]byte{10, 0, byte(i), byte(i)}), 1, 0)
		c.put(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 1, 0)
	}
}

func TestFamilyOf(t *testing.T) {
	for _, tt := range []struct{ network, addr, want string }{
		{"tcp", "10.0.0.1", "tcp4"}, {"tcp", "::1", "tcp6"}, {"tcp4", "10.0.0.1", "tcp4"}, {"udp6", "::1", "udp6"},
	} {
		if got := familyOf(tt.network, netip.MustParseAddr(tt.addr)); got != tt.want {
			t.Errorf("%v: %s", tt, got)
		}
	}
}

// dualStack is a pair whose second end listens on IPv4 only, and hears no IPv6
// if deaf. It returns the addresses of a host that has both families, IPv6
// first.
func dualStack(t *testing.T, deaf bool) (e *Engine, addrs []net.Addr) {
	t.Helper()
	c := MemoryConfig{Config: Config{Logger: zap.NewNop()}}
	lossy := c
	if deaf {
		lossy.Faults.Drop = func(_ uint64, frame []byte) bool { return frame[12] == 0x86 && frame[13] == 0xdd }
	}
	a, b, err := NewMemoryPair(lossy, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	ln, err := b.Listen("tcp4", "10.0.0.2:80")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			defer c.Close()
		}
	}()
	return a, []net.Addr{&net.TCPAddr{IP: net.ParseIP("fd00::2"), Port: 80}, &net.TCPAddr{IP: net.ParseIP("10.0.0.2"), Port: 80}}
}

// TestFallback: a first family that does not answer costs FallbackDelay, one
// that refuses nothing.
func TestFallback(t *testing.T) {
	for _, tt := range []struct {
		deaf        bool
		delay       time.Duration
		least, most time.Duration
	}{
		{true, 100 * time.Millisecond, 90 * time.Millisecond, 5 * time.Second},
		{true, 0, 290 * time.Millisecond, 5 * time.Second},
		{false, time.Minute, 0, 5 * time.Second},
	} {
		e, addrs := dualStack(t, tt.deaf)
		r := &race{d: &Dialer{FallbackDelay: tt.delay}, e: e, network: "tcp"}
		start := time.Now()
		c, err := r.parallel(context.Background(), addrs)
		took := time.Since(start)
		if err != nil {
			t.Fatal(err)
		}
		if to := c.RemoteAddr().String(); to != "10.0.0.2:80" || took < tt.least || took > tt.most {
			t.Errorf("%+v: %s after %v", tt, to, took)
		}
		c.Close()
	}
}

// TestFallbackFails: the error is the first family's, and comes at once when
// both refuse.
func TestFallbackFails(t *testing.T) {
	e, addrs := dualStack(t, false)
	for _, a := range addrs {
		a.(*net.TCPAddr).Port = 9
	}
	r := &race{d: &Dialer{FallbackDelay: time.Minute}, e: e, network: "tcp"}
	_, err := r.parallel(context.Background(), addrs)
	if !errors.Is(err, syscall.ECONNREFUSED) || err.Error() != "dial tcp [fd00::2]:9: connect: connection refused" {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	e, addrs = dualStack(t, true)
	r.e = e
	addrs[1] = &net.TCPAddr{IP: net.ParseIP("fd00::2"), Port: 81}
	if _, err = r.serial(ctx, addrs); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// TestKernelFastOpenKey: the kernel's socket gets ListenConfig's key, and what
// it holds is read back whole, zeros included.
func TestKernelFastOpenKey(t *testing.T) {
	lc := &ListenConfig{FastOpen: 4, FastOpenKey: "0-1-0-2,0-0-0-3"}
	want, err := tcp.ParseFastOpenKeys(lc.FastOpenKey)
	if err != nil {
		t.Fatal(err)
	}
	l, err := lc.std().Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		s := stateOf(int(fd), kindOf(int(fd)))
		got, ok := tcp.NewFastOpenKeys([]byte(s.get(unix.IPPROTO_TCP, unix.TCP_FASTOPEN_KEY)))
		if n := s.get(unix.IPPROTO_TCP, unix.TCP_FASTOPEN).int(); n != 4 || got != want || !ok {
			t.Errorf("%+v, %d", got, n)
		}
	})
}
