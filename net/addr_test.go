package onload_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// addrHost is what the cases below need: net in a namespace, or an engine.
type addrHost interface {
	DialTCP(network string, laddr, raddr *net.TCPAddr) (net.Conn, error)
	DialUDP(network string, laddr, raddr *net.UDPAddr) (net.Conn, error)
	ListenTCP(network string, laddr *net.TCPAddr) (net.Listener, error)
	ListenUDP(network string, laddr *net.UDPAddr) (net.PacketConn, error)
}

type stdAddrs struct{ *lab.NS }

func (h stdAddrs) DialTCP(network string, laddr, raddr *net.TCPAddr) (c net.Conn, err error) {
	return c, h.Do(func() error { c, err = net.DialTCP(network, laddr, raddr); return err })
}

func (h stdAddrs) DialUDP(network string, laddr, raddr *net.UDPAddr) (c net.Conn, err error) {
	return c, h.Do(func() error { c, err = net.DialUDP(network, laddr, raddr); return err })
}

func (h stdAddrs) ListenTCP(network string, laddr *net.TCPAddr) (l net.Listener, err error) {
	return l, h.Do(func() error { l, err = net.ListenTCP(network, laddr); return err })
}

func (h stdAddrs) ListenUDP(network string, laddr *net.UDPAddr) (c net.PacketConn, err error) {
	return c, h.Do(func() error { c, err = net.ListenUDP(network, laddr); return err })
}

type onloadAddrs struct{ *onload.Engine }

func (h onloadAddrs) DialTCP(network string, laddr, raddr *net.TCPAddr) (net.Conn, error) {
	return h.Engine.DialTCP(network, laddr, raddr)
}

func (h onloadAddrs) DialUDP(network string, laddr, raddr *net.UDPAddr) (net.Conn, error) {
	return h.Engine.DialUDP(network, laddr, raddr)
}

func (h onloadAddrs) ListenTCP(network string, laddr *net.TCPAddr) (net.Listener, error) {
	return h.Engine.ListenTCP(network, laddr)
}

func (h onloadAddrs) ListenUDP(network string, laddr *net.UDPAddr) (net.PacketConn, error) {
	return h.Engine.ListenUDP(network, laddr)
}

// oddAddrs are addresses, and what is none.
var oddAddrs = map[string]struct {
	ip   net.IP
	port int
}{
	"short":    {net.IP{1, 2, 3}, 9},
	"IPv4":     {net.IPv4(10, 77, 0, 1), 0},
	"IPv6":     {net.ParseIP("fd77::1"), 0},
	"0.0.0.0":  {net.IPv4zero, 0},
	"::":       {net.IPv6unspecified, 0},
	"70000":    {nil, 70000},
	"65536+80": {net.IPv4(10, 77, 0, 1), 65536 + 80},
	"-1":       {nil, -1},
}

// TestOddAddrs: addresses in structs are refused, and taken, as by net. Some
// cannot be written as text, or mean something else then.
func TestOddAddrs(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	end := func(c io.Closer, err error) error {
		if err == nil {
			c.Close()
		}
		return err
	}
	for name, a := range oddAddrs {
		for _, v := range []string{"", "4", "6"} {
			for call, run := range map[string]func(h addrHost) error{
				"dial TCP": func(h addrHost) error {
					return end(h.DialTCP("tcp"+v, nil, &net.TCPAddr{IP: a.ip, Port: a.port}))
				},
				"dial UDP": func(h addrHost) error {
					return end(h.DialUDP("udp"+v, nil, &net.UDPAddr{IP: a.ip, Port: a.port}))
				},
				"dial TCP from": func(h addrHost) error {
					return end(h.DialTCP("tcp"+v, &net.TCPAddr{IP: a.ip, Port: a.port}, &net.TCPAddr{IP: p.B.Addr4.AsSlice(), Port: 9}))
				},
				"dial UDP from": func(h addrHost) error {
					return end(h.DialUDP("udp"+v, &net.UDPAddr{IP: a.ip, Port: a.port}, &net.UDPAddr{IP: p.B.Addr4.AsSlice(), Port: 9}))
				},
				"listen TCP": func(h addrHost) error { return end(h.ListenTCP("tcp"+v, &net.TCPAddr{IP: a.ip, Port: a.port})) },
				"listen UDP": func(h addrHost) error { return end(h.ListenUDP("udp"+v, &net.UDPAddr{IP: a.ip, Port: a.port})) },
			} {
				t.Run(call+v+" "+name, func(t *testing.T) {
					want := describe(run(stdAddrs{p.A}))
					if got := describe(run(onloadAddrs{e})); got != want {
						t.Errorf("onload:\n%s\nnet:\n%s", got, want)
					}
				})
			}
		}
	}
}

// TestOddAddrsMemory: nor are they taken for others without a kernel.
func TestOddAddrsMemory(t *testing.T) {
	a, b := memoryPair(t)
	ln, err := b.ListenTCP("tcp", &net.TCPAddr{Port: 80})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	to := net.ParseIP(addrB)
	_, tcp := a.DialTCP("tcp", nil, &net.TCPAddr{IP: to, Port: 65536 + 80})
	_, from := a.DialTCP("tcp", &net.TCPAddr{IP: net.IP{1, 2, 3}}, &net.TCPAddr{IP: to, Port: 80})
	_, udp := a.DialUDP("udp", nil, &net.UDPAddr{IP: to, Port: -1})
	_, listen := a.ListenTCP("tcp", &net.TCPAddr{Port: 65536 + 80})
	_, listenUDP := a.ListenUDP("udp", &net.UDPAddr{Port: 65536 + 80})
	for i, err := range []error{tcp, from, udp, listen, listenUDP} {
		if !errors.Is(err, syscall.EINVAL) {
			t.Errorf("call %d: %v", i, err)
		}
	}
}

// TestOddDestinations: writes to what is no address fail as in net, and so do
// those of a socket that is closed or late.
func TestOddDestinations(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	peer := net.ParseIP(p.B.Addr4.String())
	for name, run := range map[string]func(c udpConn) error{
		"port 0":   func(c udpConn) error { return second(c.WriteTo([]byte("x"), &net.UDPAddr{IP: peer})) },
		"port big": func(c udpConn) error { return second(c.WriteTo([]byte("x"), &net.UDPAddr{IP: peer, Port: 65536 + 9})) },
		"port -1":  func(c udpConn) error { return second(c.WriteTo([]byte("x"), &net.UDPAddr{IP: peer, Port: -1})) },
		"AddrPort, port 0": func(c udpConn) error {
			return second(c.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(p.B.Addr4, 0)))
		},
		"IPv4": func(c udpConn) error { return second(c.WriteTo([]byte("x"), &net.UDPAddr{IP: peer, Port: 9})) },
		"IPv6": func(c udpConn) error {
			return second(c.WriteToUDPAddrPort([]byte("x"), netip.AddrPortFrom(p.B.Addr6, 9)))
		},
		"message to this host": func(c udpConn) error {
			_, _, err := c.WriteMsgUDP([]byte("x"), nil, &net.UDPAddr{Port: 9})
			return err
		},
		"message to port 0": func(c udpConn) error {
			_, _, err := c.WriteMsgUDP([]byte("x"), nil, &net.UDPAddr{IP: peer})
			return err
		},
		"late": func(c udpConn) error {
			c.SetWriteDeadline(past)
			return second(c.WriteTo(nil, &net.UDPAddr{IP: peer, Port: 9}))
		},
		"late Write":   func(c udpConn) error { c.SetWriteDeadline(past); return second(c.Write(nil)) },
		"closed Write": func(c udpConn) error { c.Close(); return second(c.Write(nil)) },
	} {
		for _, at := range []string{":0", p.A.Addr4.String() + ":0", "[" + p.A.Addr6.String() + "]:0"} {
			t.Run(name+" from "+at, func(t *testing.T) {
				result := func(h host) string {
					c, err := h.ListenPacket("udp", at)
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					return describe(run(c.(udpConn)))
				}
				want := result(p.A)
				if got := result(e); got != want {
					t.Errorf("onload:\n%s\nnet:\n%s", got, want)
				}
			})
		}
	}
}

// TestDialWrongNetwork: no connection of another type comes back, and none
// from a context that is over.
func TestDialWrongNetwork(t *testing.T) {
	e, err := onload.New(onload.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	ln, err := e.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	d := &onload.Dialer{Engine: e}
	_, unix := d.DialUnix(context.Background(), "tcp", nil, &net.UnixAddr{Name: ln.Addr().String()})
	_, ip := d.DialIP(context.Background(), "udp", netip.Addr{}, netip.MustParseAddr("127.0.0.1"))
	for _, err := range []error{unix, ip} {
		if unknown := net.UnknownNetworkError(""); !errors.As(err, &unknown) {
			t.Error(err)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("DialTCP took a nil context")
		}
	}()
	//lint:ignore SA1012 net panics, and so do we
	_, _ = d.DialTCP(nil, "tcp", netip.AddrPort{}, netip.AddrPort{})
}

// TestDialUDPCancelled: a context that is over opens no socket.
func TestDialUDPCancelled(t *testing.T) {
	a, _ := memoryPair(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := (&onload.Dialer{Engine: a}).DialUDP(ctx, "udp", netip.AddrPort{}, netip.MustParseAddrPort(addrB+":9"))
	if !errors.Is(err, context.Canceled) || !strings.HasSuffix(fmt.Sprint(err), "operation was canceled") {
		t.Error(err)
	}
}
