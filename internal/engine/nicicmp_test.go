package engine

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/ip"
)

// icmpFrame is an ICMP message between the NICs of nics, from the second to the first.
func icmpFrame(src, dst netip.Addr, typ, code uint8, rest uint32, data []byte) []byte {
	msg := append([]byte{typ, code, 0, 0}, binary.BigEndian.AppendUint32(nil, rest)...)
	msg = append(msg, data...)
	proto, sum := uint8(ip.ProtoICMP), ip.Sum(msg)
	if dst.Is6() {
		proto = ip.ProtoICMPv6
		sum = ip.Add(sum, ip.PseudoSum(src, dst, proto, len(msg)))
	}
	binary.BigEndian.PutUint16(msg[2:], ^sum)
	return ipFrame(src, dst, nicMAC(2), nicMAC(1), proto, msg)
}

func ipFrame(src, dst netip.Addr, from, to [6]byte, proto uint8, l4 []byte) []byte {
	var h ip.Header
	h.Init(from, to, 0, src, dst, proto, 0, 64)
	b := make([]byte, h.Len()+len(l4))
	copy(b[h.Len():], l4)
	h.Put(b, len(l4), 0, 0)
	return b
}

// TestNICErrors: ICMP errors by a link without a kernel reach the sockets: a UDP port
// that is closed refuses, and a router that finds a packet too big lowers the path's MTU.
// Pings with the same headers as an error are the host's all the same.
func TestNICErrors(t *testing.T) {
	t.Parallel()
	pongs := make(chan byte, 16)
	es, errs := nicsOver(t, sim.LinkConfig{Tap: func(d sim.Dir, f []byte) {
		var p ip.Packet
		if d == sim.AtoB && ip.Parse(f, len(f), &p) == nil && (p.Proto == ip.ProtoICMP || p.Proto == ip.ProtoICMPv6) {
			if typ := f[p.L4Off]; typ == 0 || typ == 129 {
				pongs <- typ
			}
		}
	}}, "10.0.0.1/24 fd00::1/64", "10.0.0.2/24 fd00::2/64")
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from, to            string
		tooBig, code        uint8
		ping, pong          byte
		least, tooLong, fit int
	}{
		{"10.0.0.1", "10.0.0.2", 3, 4, 8, 0, 1300, 1300 - 27, 1300 - 28},
		{"fd00::1", "fd00::2", 2, 0, 128, 129, 1300, 1300 - 47, 1300 - 48},
	} {
		us, peer := netip.MustParseAddr(c.from), netip.MustParseAddr(c.to)
		at := netip.AddrPortFrom(peer, 9)
		w, err := es[0].Way(AnyFamily, Traffic{Proto: ip.ProtoUDP}, netip.AddrPort{}, at)
		if err != nil {
			t.Fatal(err)
		}
		o := Options{ip: stack.IPOptions{PathMTU: stack.PathMTUDo, PathMTU6: stack.PathMTUDo}}
		u, why, err := es[0].DialUDP(context.Background(), &w, netip.AddrPort{}, at, &o)
		if err != nil || why != "" {
			t.Fatal(err, why)
		}
		defer u.Close()
		read := func() error {
			_ = u.SetReadDeadline(time.Now().Add(time.Minute))
			_, _, _, _, err := u.ReadFrom(make([]byte, 9))
			return err
		}
		if _, err := u.WriteTo([]byte("hello"), netip.AddrPort{}); err != nil {
			t.Fatal(err)
		}
		if err := read(); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: a closed port: %v", c.to, err)
		}

		port := binary.BigEndian.AppendUint16(nil, u.LocalAddr().Port())
		quote := ipFrame(us, peer, nicMAC(1), nicMAC(2), ip.ProtoUDP, append(port, 0, 9, 5, 120, 0, 0))
		router := es[1].ifs[0]
		send := func(f []byte) {
			if !router.first().SendFrame(router.Index, f) {
				t.Fatal("the frame was not sent")
			}
		}
		send(icmpFrame(peer, us, c.tooBig, c.code, uint32(c.least), quote[14:]))
		send(icmpFrame(peer, us, c.ping, 0, 1, nil))
		if err := read(); !errors.Is(err, syscall.EMSGSIZE) {
			t.Errorf("%s: a packet too big: %v", c.to, err)
		}
		if _, err := u.WriteTo(make([]byte, c.tooLong), netip.AddrPort{}); !errors.Is(err, syscall.EMSGSIZE) {
			t.Errorf("%s: a datagram longer than the path's MTU: %v", c.to, err)
		}
		if _, err := u.WriteTo(make([]byte, c.fit), netip.AddrPort{}); err != nil {
			t.Errorf("%s: a datagram as long as the path's MTU: %v", c.to, err)
		}
		select {
		case got := <-pongs:
			if got != c.pong {
				t.Errorf("%s: an answer of type %d", c.to, got)
			}
		case <-time.After(time.Minute):
			t.Errorf("%s: the ping behind the error was not answered", c.to)
		}
	}
}
