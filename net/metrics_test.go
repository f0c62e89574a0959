package onload_test

import (
	"encoding/binary"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// synSeen is what a SYN or SYN-ACK shows of the metrics of its route.
type synSeen struct {
	mss, window uint16
	ttl         uint8
	ecn         bool
}

// synOf reads an Ethernet frame with an IPv4 SYN from src; any: with or without ACK.
func synOf(b []byte, src [4]byte) (s synSeen, ok bool) {
	if len(b) < 14+40 || binary.BigEndian.Uint16(b[12:]) != 0x0800 || b[14+9] != unix.IPPROTO_TCP || [4]byte(b[14+12:]) != src {
		return s, false
	}
	t := b[14+int(b[14]&15)*4:]
	if t[13]&2 == 0 {
		return s, false
	}
	s = synSeen{window: binary.BigEndian.Uint16(t[14:]), ttl: b[14+8], ecn: t[13]&0x40 != 0}
	for o := t[20 : int(t[12]>>4)*4]; len(o) >= 4; {
		switch {
		case o[0] == 2:
			s.mss = binary.BigEndian.Uint16(o[2:])
			return s, true
		case o[0] == 1:
			o = o[1:]
		default:
			o = o[max(int(o[1]), 2):]
		}
	}
	return s, true
}

// TestRouteMetrics: SYN and SYN-ACK show the metrics of their route as the
// kernel's do.
func TestRouteMetrics(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	out, err := p.A.Command("ip", "route", "replace", "10.77.0.0/24", "dev", p.A.If, "src", p.A.Addr4.String(),
		"advmss", "1000", "initcwnd", "20", "initrwnd", "2", "window", "10000", "hoplimit", "7", "congctl", "reno", "features", "ecn").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	fd := -1
	err = p.B.Do(func() (err error) {
		all := uint16(unix.ETH_P_ALL)
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all<<8|all>>8))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	wait := unix.Timeval{Sec: 60}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		t.Fatal(err)
	}
	seen := func() synSeen {
		t.Helper()
		b := make([]byte, 2048)
		for {
			n, _, err := unix.Recvfrom(fd, b, 0)
			if err != nil {
				t.Fatal(err)
			}
			if s, ok := synOf(b[:n], p.A.Addr4.As4()); ok {
				return s
			}
		}
	}
	a := vethEngine(t, p.A, onload.Config{})
	var want [2]synSeen
	for i, h := range []host{p.A, a} {
		l, err := p.B.Listen("tcp4", p.B.Addr4.String()+":0")
		if err != nil {
			t.Fatal(err)
		}
		c, err := h.Dial("tcp4", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		got := [2]synSeen{seen()}
		if oc, ok := c.(*onload.TCPConn); ok {
			info, err := oc.Info()
			if err != nil || !onload.PathOf(oc).Accelerated || info.Congestion != "newreno" || info.Cwnd != 20*info.SendMSS || !info.ECN {
				t.Errorf("%+v, %v, want newreno, ECN and 20 segments", info, err)
			}
		}
		c.Close()
		l.Close()
		l, err = h.Listen("tcp4", p.A.Addr4.String()+":0")
		if err != nil {
			t.Fatal(err)
		}
		d := net.Dialer{Timeout: time.Minute}
		var peer net.Conn
		err = p.B.Do(func() (err error) { peer, err = d.Dial("tcp4", l.Addr().String()); return err })
		if err != nil {
			t.Fatal(err)
		}
		got[1] = seen()
		peer.Close()
		l.Close()
		if i == 0 {
			want = got
		} else if got != want {
			t.Errorf("SYN and SYN-ACK %+v, the kernel's %+v", got, want)
		}
	}
}
