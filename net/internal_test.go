package onload

import (
	"context"
	"errors"
	"math"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

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
}

// The kernel's struct tcp_info in our terms, for a state of a bulk transfer.
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
		{true, 100 * time.Millisecond, 90 * time.Millisecond, time.Minute},
		{true, 0, 290 * time.Millisecond, time.Minute},
		{false, time.Hour, 0, time.Minute},
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
	e, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	o, _, err := e.in.TwinOptions(l.(*net.TCPListener))
	if err != nil {
		t.Fatal(err)
	}
	var got tcp.Config
	if o.Apply(&got, false); got.FastOpen != 4 || got.FastOpenKeys != want {
		t.Errorf("%+v, %d", got.FastOpenKeys, got.FastOpen)
	}
}
