package onload

import (
	"net"
	"net/netip"
	"testing"
	"time"

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
	e := &Engine{cfg: Config{RcvBuf: 1 << 16, Congestion: "newreno"}}
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

func TestSockStateChanges(t *testing.T) {
	fresh := sockState{rcvBuf: 131072, sndBuf: 16384, idle: 7200, interval: 75, count: 9, congestion: "bbr"}
	if o := fresh.changes(fresh); o != (options{}) {
		t.Errorf("no change: %+v", o)
	}
	set := fresh
	set.rcvBuf, set.keepAlive, set.idle, set.congestion, set.userTimeout = 200000, 1, 30, "reno", 1500
	set.linger.Onoff, set.linger.Linger = 1, 5
	o := fresh.changes(set)
	if o.rcvBuf != 100000 || o.sndBuf != 0 || o.congestion != "newreno" || o.userTimeout != 1500*time.Millisecond ||
		*o.linger != 5 || *o.keepAlive != (tcp.KeepAlive{Enable: true, Idle: 30 * time.Second, Interval: 75 * time.Second, Count: 9}) || o.kernel != "" {
		t.Errorf("%+v", o)
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
