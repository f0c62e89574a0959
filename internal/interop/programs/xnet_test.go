package programs

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// TestXNetOptions: each option of x/net's PacketConns that a UDP socket has is set
// and read back on onload's socket as on the kernel's, and leaves it accelerated.
func TestXNetOptions(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := engine(t, p.A)
	for _, tt := range []struct {
		name, bind string
		set        func(c net.PacketConn) []any
	}{
		{"ipv4", p.A.Addr4.String(), options4},
		{"ipv4 of a wildcard", "", options4},
		{"ipv6", p.A.Addr6.String(), options6},
		{"ipv6 of a wildcard", "", options6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ours, theirs := listen(t, e, "udp", net.JoinHostPort(tt.bind, "0")), listen(t, p.A, "udp", net.JoinHostPort(tt.bind, "0"))
			got, want := fmt.Sprint(tt.set(ours)...), fmt.Sprint(tt.set(theirs)...)
			if got != want {
				t.Errorf("onload: %s\nkernel: %s", got, want)
			}
			accelerated(t, e, ours)
		})
	}
}

func options4(c net.PacketConn) (l []any) {
	x := ipv4.NewPacketConn(c)
	note := func(v any, err error) { l = append(l, v, err, "; ") }
	note("control message", x.SetControlMessage(ipv4.FlagTTL|ipv4.FlagDst|ipv4.FlagInterface, true))
	note("control message off", x.SetControlMessage(ipv4.FlagTTL, false))
	note("TTL", x.SetTTL(44))
	note(x.TTL())
	note("TTL 0", x.SetTTL(0))
	note("TOS", x.SetTOS(0x28))
	note(x.TOS())
	note("multicast TTL", x.SetMulticastTTL(3))
	note(x.MulticastTTL())
	note("loopback", x.SetMulticastLoopback(false))
	note(x.MulticastLoopback())
	return l
}

func options6(c net.PacketConn) (l []any) {
	x := ipv6.NewPacketConn(c)
	note := func(v any, err error) { l = append(l, v, err, "; ") }
	note("control message", x.SetControlMessage(ipv6.FlagHopLimit|ipv6.FlagDst|ipv6.FlagInterface|ipv6.FlagTrafficClass, true))
	note("control message off", x.SetControlMessage(ipv6.FlagHopLimit, false))
	note("hop limit", x.SetHopLimit(44))
	note(x.HopLimit())
	note("hop limit 300", x.SetHopLimit(300))
	note("class", x.SetTrafficClass(0x28))
	note(x.TrafficClass())
	note("multicast hop limit", x.SetMulticastHopLimit(3))
	note(x.MulticastHopLimit())
	note("loopback", x.SetMulticastLoopback(false))
	note(x.MulticastLoopback())
	return l
}

// TestXNetDatagrams: datagrams by x/net's PacketConns. Those that are written
// and read by x/net itself make the kernel the socket's carrier, and none is lost by
// that; UDPConn's ReadBatch and WriteBatch take the same messages and do not.
func TestXNetDatagrams(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := engine(t, p.A)
	for _, six := range []bool{false, true} {
		self, peer := p.A.Addr4.String(), p.B.Addr4.String()
		if six {
			self, peer = p.A.Addr6.String(), p.B.Addr6.String()
		}
		far := listen(t, p.B, "udp", net.JoinHostPort(peer, "0"))
		for _, h := range []host{p.A, e} {
			c := listen(t, h, "udp", net.JoinHostPort(self, "0"))
			var x batches = ipv4.NewPacketConn(c)
			if six {
				x = ipv6.NewPacketConn(c)
			}
			if u, ok := c.(*onload.UDPConn); ok {
				bounce(t, u, far)
				accelerated(t, e, c)
			}
			if _, err := far.WriteTo([]byte("unread"), c.LocalAddr()); err != nil {
				t.Fatal(err)
			}
			bounce(t, x, far, "unread")
			if u, ok := c.(*onload.UDPConn); ok {
				if path := onload.PathOf(u); path.Accelerated || !strings.Contains(path.Reason, "RawConn") {
					t.Error(path)
				}
			}
			// What x/net's ReadFrom takes is decided by the type.
			c.SetReadDeadline(time.Unix(1, 0))
			_, _, _, err := ipv4.NewPacketConn(c).ReadFrom(make([]byte, 1))
			if _, theirs := c.(*net.UDPConn); theirs == strings.Contains(err.Error(), "invalid conn type") {
				t.Errorf("%T: %v", c, err)
			}
		}
	}
}

type batches interface {
	ReadBatch([]ipv4.Message, int) (int, error)
	WriteBatch([]ipv4.Message, int) (int, error)
	SetReadDeadline(time.Time) error
}

// bounce sends datagrams by c to far, which returns them; first are to be read
// before.
func bounce(t *testing.T, c batches, far net.PacketConn, first ...string) {
	t.Helper()
	want := first
	out := make([]ipv4.Message, 10)
	for i := range out {
		s := fmt.Sprint("datagram ", i)
		out[i] = ipv4.Message{Buffers: [][]byte{[]byte(s)}, Addr: far.LocalAddr()}
		want = append(want, s)
	}
	for sent := 0; sent < len(out); {
		n, err := c.WriteBatch(out[sent:], 0)
		if err != nil {
			t.Fatal(err)
		}
		sent += n
	}
	far.SetReadDeadline(time.Now().Add(patience))
	b := make([]byte, 100)
	for range out {
		n, from, err := far.ReadFrom(b)
		if err == nil {
			_, err = far.WriteTo(b[:n], from)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	in := make([]ipv4.Message, len(want))
	for i := range in {
		in[i] = ipv4.Message{Buffers: [][]byte{make([]byte, 100)}}
	}
	err := c.SetReadDeadline(time.Now().Add(patience))
	for have := 0; have < len(in); {
		n, e := c.ReadBatch(in[have:], 0)
		if err = errors.Join(err, e); err != nil {
			t.Fatal(err)
		}
		have += n
	}
	for i, m := range in {
		if s := string(m.Buffers[0][:m.N]); s != want[i] {
			t.Errorf("datagram %d is %q, want %q", i, s, want[i])
		}
	}
}
