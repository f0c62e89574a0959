package onload_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// optionSocket is what both connections of TestRawOptions have.
type optionSocket interface {
	tcpSocket
	SetNoDelay(bool) error
	SetLinger(int) error
	SetKeepAlive(bool) error
	SetKeepAlivePeriod(time.Duration) error
	SetKeepAliveConfig(net.KeepAliveConfig) error
	SetReadBuffer(int) error
	SetWriteBuffer(int) error
}

// byMethod are setters of net's, with a random value.
var byMethod = map[string]func(c optionSocket, r *rand.Rand) error{
	"SetNoDelay":         func(c optionSocket, r *rand.Rand) error { return c.SetNoDelay(r.IntN(2) == 0) },
	"SetLinger":          func(c optionSocket, r *rand.Rand) error { return c.SetLinger(r.IntN(20) - 3) },
	"SetKeepAlive":       func(c optionSocket, r *rand.Rand) error { return c.SetKeepAlive(r.IntN(2) == 0) },
	"SetKeepAlivePeriod": func(c optionSocket, r *rand.Rand) error { return c.SetKeepAlivePeriod(randomPeriod(r)) },
	"SetKeepAliveConfig": func(c optionSocket, r *rand.Rand) error {
		return c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: r.IntN(2) == 0, Idle: randomPeriod(r), Interval: randomPeriod(r), Count: r.IntN(100) + 1})
	},
	"SetReadBuffer":  func(c optionSocket, r *rand.Rand) error { return c.SetReadBuffer(4096 + r.IntN(100000)) },
	"SetWriteBuffer": func(c optionSocket, r *rand.Rand) error { return c.SetWriteBuffer(4096 + r.IntN(100000)) },
}

func randomPeriod(r *rand.Rand) time.Duration {
	return time.Duration(1+r.IntN(5000)) * 500 * time.Millisecond
}

// byControl are options, and the values that they may get.
var byControl = []struct {
	name       string
	level, opt int
	least, n   int
	six, four  bool // of connections of that family only
}{
	{name: "TCP_NODELAY", level: unix.IPPROTO_TCP, opt: unix.TCP_NODELAY, n: 2},
	{name: "SO_KEEPALIVE", level: unix.SOL_SOCKET, opt: unix.SO_KEEPALIVE, n: 2},
	{name: "TCP_KEEPIDLE", level: unix.IPPROTO_TCP, opt: unix.TCP_KEEPIDLE, least: 1, n: 3000},
	{name: "TCP_KEEPINTVL", level: unix.IPPROTO_TCP, opt: unix.TCP_KEEPINTVL, least: 1, n: 3000},
	{name: "TCP_KEEPCNT", level: unix.IPPROTO_TCP, opt: unix.TCP_KEEPCNT, least: 1, n: 100},
	{name: "TCP_USER_TIMEOUT", level: unix.IPPROTO_TCP, opt: unix.TCP_USER_TIMEOUT, n: 100000},
	{name: "SO_RCVBUF", level: unix.SOL_SOCKET, opt: unix.SO_RCVBUF, least: 4096, n: 100000},
	{name: "SO_SNDBUF", level: unix.SOL_SOCKET, opt: unix.SO_SNDBUF, least: 4096, n: 100000},
	{name: "SO_MAX_PACING_RATE", level: unix.SOL_SOCKET, opt: unix.SO_MAX_PACING_RATE, least: 1000, n: 1 << 30},
	{name: "IP_TOS", level: unix.IPPROTO_IP, opt: unix.IP_TOS, n: 256, four: true},
	{name: "IP_TTL", level: unix.IPPROTO_IP, opt: unix.IP_TTL, least: 1, n: 255, four: true},
	{name: "IPV6_TCLASS", level: unix.IPPROTO_IPV6, opt: unix.IPV6_TCLASS, n: 256, six: true},
	{name: "IPV6_UNICAST_HOPS", level: unix.IPPROTO_IPV6, opt: unix.IPV6_UNICAST_HOPS, least: 1, n: 255, six: true},
}

// optionsSeen are all options of a connection in words. Buffers are not among them
// before somebody has set their size: the kernel's grow.
func optionsSeen(t *testing.T, c optionSocket, six bool, sized map[string]bool) string {
	t.Helper()
	var b strings.Builder
	if err := raw(t, c).Control(func(fd uintptr) {
		for _, o := range byControl {
			if (o.six && !six) || (o.four && six) || strings.HasSuffix(o.name, "BUF") && !sized[o.name] {
				continue
			}
			v, err := unix.GetsockoptInt(int(fd), o.level, o.opt)
			fmt.Fprintln(&b, o.name, v, err)
		}
		name, err := unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
		fmt.Fprintln(&b, "TCP_CONGESTION", name, err)
		mss, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG)
		fmt.Fprintln(&b, "TCP_MAXSEG", mss, err)
		l, err := unix.GetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER)
		if err != nil || l.Onoff == 0 {
			l = &unix.Linger{}
		}
		fmt.Fprintln(&b, "SO_LINGER", l.Onoff, l.Linger, err)
	}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestRawOptions: options of a connection that methods and RawConn.Control set, in
// any order, are those that the kernel's connection has.
func TestRawOptions(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	for seed, address := range []string{p.B.Addr4.String(), p.B.Addr6.String(), p.B.Addr4.String(), p.B.Addr6.String()} {
		six := strings.Contains(address, ":")
		conns, _ := rawPairs(t, p, e, address)
		ends := [2]optionSocket{conns[0].(optionSocket), conns[1].(optionSocket)}
		for _, c := range ends { // the kernel's default is the administrator's
			if err := setCongestion(t, c, "reno"); err != nil {
				t.Fatal(err)
			}
		}
		sized := map[string]bool{}
		r := rand.New(rand.NewPCG(uint64(seed), 1))
		var did []string
		for range 100 {
			step := r.Uint64()
			for i, c := range ends { // the same random choices for both
				what, err := randomOption(t, c, six, rand.New(rand.NewPCG(step, 2)), sized)
				if err != nil {
					t.Fatalf("seed %d: %s: %v", seed, what, err)
				}
				if i == 0 {
					did = append(did, what)
				}
			}
			if kernel, ours := optionsSeen(t, ends[0], six, sized), optionsSeen(t, ends[1], six, sized); kernel != ours {
				t.Fatalf("seed %d, after %v: the kernel's connection has\n%s\nours\n%s", seed, did, kernel, ours)
			}
		}
	}
}

// randomOption sets one of c's options, and says which.
func randomOption(t *testing.T, c optionSocket, six bool, r *rand.Rand, sized map[string]bool) (what string, err error) {
	t.Helper()
	if r.IntN(2) == 0 {
		methods := []string{"SetNoDelay", "SetLinger", "SetKeepAlive", "SetKeepAlivePeriod", "SetKeepAliveConfig", "SetReadBuffer", "SetWriteBuffer"}
		name := methods[r.IntN(len(methods))]
		sized["SO_RCVBUF"] = sized["SO_RCVBUF"] || name == "SetReadBuffer"
		sized["SO_SNDBUF"] = sized["SO_SNDBUF"] || name == "SetWriteBuffer"
		return name, byMethod[name](c, r)
	}
	if r.IntN(len(byControl)) == 0 {
		name := []string{"reno", "cubic"}[r.IntN(2)]
		return "TCP_CONGESTION " + name, setCongestion(t, c, name)
	}
	o := byControl[r.IntN(len(byControl))]
	for (o.six && !six) || (o.four && six) {
		o = byControl[r.IntN(len(byControl))]
	}
	sized[o.name] = true
	v := o.least + r.IntN(o.n)
	cerr := raw(t, c).Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), o.level, o.opt, v) })
	return fmt.Sprint(o.name, " ", v), errors.Join(err, cerr)
}

func setCongestion(t *testing.T, c optionSocket, name string) (err error) {
	t.Helper()
	cerr := raw(t, c).Control(func(fd uintptr) {
		err = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, name)
	})
	return errors.Join(err, cerr)
}
