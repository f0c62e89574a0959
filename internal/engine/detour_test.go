package engine_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	onload "github.com/onload-go/onload/net"
)

// ways are how packets travel between A, of whose links the engine has only the
// first, and an address of R's: 0 by the accelerated link, 1 by the other.
type ways struct{ out, in int }

func (w ways) String() string {
	by := [2]string{"accelerated", "other"}
	return fmt.Sprintf("out=%s/in=%s", by[w.out], by[w.in])
}

// lead sets the routes of A to R's networks, and of R to A's address of the first
// link.
func (u *uplinks) lead(t *testing.T, v6 bool, w ways) {
	t.Helper()
	network := netip.PrefixFrom(far(v6, 0), map[bool]int{false: 16, true: 64}[v6])
	here := addrOf(u.a[0], v6)
	u.ip(t, u.A, fmt.Sprintf("route replace %s via %s dev %s src %s", network, addrOf(u.r[w.out], v6), u.a[w.out].If, here))
	back := fmt.Sprintf("route replace %s dev %s", netip.PrefixFrom(here, here.BitLen()), u.r[w.in].If)
	if w.in != 0 {
		back += fmt.Sprintf(" via %s", addrOf(u.a[w.in], v6))
	}
	u.ip(t, u.R, back)
}

// TestDetour: a client whose answers lead by a link that is not accelerated is
// served, and its connection goes on when the route moves to the accelerated link
// and back.
func TestDetour(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("v6=%v", v6), func(t *testing.T) {
			u := newUplinks(t, 0)
			u.lead(t, v6, ways{1, 0})
			for _, at := range []string{":0", netip.AddrPortFrom(addrOf(u.a[0], v6), 0).String()} {
				l, err := u.engine.Listen("tcp", at)
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				_, port, _ := net.SplitHostPort(l.Addr().String())
				c, err := u.dialFrom(far(v6, 1), net.JoinHostPort(addrOf(u.a[0], v6).String(), port))
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				d, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				defer d.Close()
				awaitPath(t, d, false)
				for i := range 6 {
					u.lead(t, v6, ways{i % 2, 0})
					awaitPath(t, d, i%2 == 0)
					u.bulk(t, c, d)
					u.bulk(t, d, c)
				}
				if s := u.engine.Stats(); s[u.a[0].If].Detours == 0 {
					t.Error("no packet is counted as a detour")
				}
			}
		})
	}
}

// TestDetourDatagrams: a connected UDP socket goes on when its route moves to a
// link that is not accelerated and back, also with datagrams that are cut.
func TestDetourDatagrams(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		u := newUplinks(t, 0)
		u.lead(t, v6, ways{0, 0})
		u.await(t, far(v6, 1), addrOf(u.a[0], v6))
		c, err := u.engine.Dial("udp", u.echoUDP(t, far(v6, 1)))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		for i := range 4 {
			u.lead(t, v6, ways{i % 2, 0})
			awaitPath(t, c, i%2 == 0)
			for _, size := range []int{1, 1401, 3001} {
				b := bytes.Repeat([]byte{byte(size)}, size)
				if _, err := c.Write(b); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, len(b)+1)
				n, err := c.Read(got)
				if err != nil || !bytes.Equal(got[:n], b) {
					t.Fatalf("v6=%v: %d of %d bytes: %v", v6, n, len(b), err)
				}
			}
		}
	}
}

// awaitPath waits until the packets of c leave by the accelerated link, or by the
// other: the engine hears of routes a moment after the kernel.
func awaitPath(t *testing.T, c net.Conn, accelerated bool) {
	t.Helper()
	for start := time.Now(); onload.PathOf(c).Accelerated != accelerated; time.Sleep(time.Millisecond) {
		if time.Since(start) > patience {
			t.Fatalf("the path is %v", onload.PathOf(c))
		}
	}
	if p := onload.PathOf(c); !accelerated && p.Reason == "" {
		t.Errorf("the path %+v has no reason", p)
	}
}

// bulk sends what makes packets of all sizes, and reads it.
func (u *uplinks) bulk(t *testing.T, from, to net.Conn) {
	t.Helper()
	data := make([]byte, 300_000)
	for i := range data {
		data[i] = byte(i * 7 >> 3)
	}
	for _, c := range []net.Conn{from, to} {
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
	}
	sent := make(chan error, 1)
	go func() {
		_, err := from.Write(data)
		sent <- err
	}()
	got := make([]byte, len(data))
	if _, err := io.ReadFull(to, got); err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, data) {
		t.Fatal("other bytes arrived")
	}
}
