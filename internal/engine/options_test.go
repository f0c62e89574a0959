package engine

import (
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/tcp"
)

// TestSockopts: an option that a hook sets, on a socket of either family and type,
// is one that we follow, or is named as the one that only the kernel can follow.
func TestSockopts(t *testing.T) {
	sec := func(n int) *int { return &n }
	type fields = Options
	for _, tt := range []struct {
		name       string
		level, opt int
		v          any // int, uint64, string
		want       fields
		on         string // networks that have it; "": all
	}{
		{"buffer", unix.SOL_SOCKET, unix.SO_RCVBUF, 100000, fields{rcvBuf: 100000}, ""},
		{"linger", unix.SOL_SOCKET, unix.SO_LINGER, unix.Linger{Onoff: 1, Linger: 5}, fields{Linger: sec(5)}, ""},
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
		{"no hops", unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 0, fields{Kernel: "a Control hook set IPV6_UNICAST_HOPS"}, "6"},
		{"small clamp", unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP, 2000, fields{Kernel: "a Control hook set TCP_WINDOW_CLAMP"}, "tcp"},
		{"priority", unix.SOL_SOCKET, unix.SO_PRIORITY, 5, fields{Kernel: "a Control hook set SO_PRIORITY"}, ""},
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
			proto := uint8(ip.ProtoTCP)
			if network[:3] == "udp" {
				proto = ip.ProtoUDP
			}
			o, err := e.Hook(proto, Family(network[3]-'0'), func(c syscall.RawConn) (err error) {
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
			})
			o.CloseSocket()
			if err != nil {
				t.Errorf("%s %s: %v", network, tt.name, err)
			} else if !reflect.DeepEqual(o, tt.want) {
				t.Errorf("%s %s: %+v, want %+v", network, tt.name, o, tt.want)
			}
		}
	}
}

// TestOptionsApply: followed options are in the connection's configuration.
func TestOptionsApply(t *testing.T) {
	o := Options{fastKeys: tcp.FastOpenKeys{N: 1}, noCookie: true, synRetries: 2, maxSeg: 1000, finWait2: -time.Second, windowClamp: 9000}
	for _, tt := range []struct{ rcvBuf, want int }{{0, 9000}, {5000, 5000}, {1 << 20, 9000}} {
		o.rcvBuf = tt.rcvBuf
		var c tcp.Config
		if o.Apply(&c, false); c != (tcp.Config{FastOpenKeys: o.fastKeys, FastOpenNoCookie: true, SYNRetries: 2, MaxSeg: 1000, FinWait2: -time.Second, RcvBuf: tt.want}) {
			t.Errorf("%+v", c)
		}
	}
	o = Options{rcvBuf: 1, sndBuf: 2, userTimeout: 3, congestion: "cubic", keepAlive: &tcp.KeepAlive{Enable: true, Count: 4}}
	c := tcp.Config{NoDelay: true}
	if o.Apply(&c, true); c != (tcp.Config{RcvBuf: 1, SndBuf: 2, UserTimeout: 3, Congestion: "cubic", NoDelay: true, KeepAlive: *o.keepAlive}) {
		t.Errorf("%+v", c)
	}
}
