package interop

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
)

// icmpMessage is an ICMP or ICMPv6 error from the peer about the packet quoted.
func icmpMessage(src, dst netip.Addr, typ, code byte, rest uint32, quoted []byte) (proto byte, b []byte) {
	b = append([]byte{typ, code, 0, 0, 0, 0, 0, 0}, quoted...)
	binary.BigEndian.PutUint32(b[4:], rest)
	if src.Is4() {
		binary.BigEndian.PutUint16(b[2:], checksum(b))
		return 1, b
	}
	pseudo := append(src.AsSlice(), dst.AsSlice()...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(b)))
	pseudo = append(pseudo, 0, 0, 0, 58)
	binary.BigEndian.PutUint16(b[2:], checksum(append(pseudo, b...)))
	return 58, b
}

// asked is a UDP socket under test, and its peer.
type asked struct {
	testing.TB
	c       net.Conn
	peer    net.PacketConn
	w       *wire
	a, b    *lab.NS
	us      netip.AddrPort
	them    netip.AddrPort
	counter int
}

// connectedUDP is a connected socket to port 9 of the peer, of an engine or of the
// kernel.
func connectedUDP(t *testing.T, fam family, ours bool) asked {
	t.Helper()
	p := lab.NewPair(t, lab.Options{Neighbors: true})
	var e host = p.A
	if ours {
		e = engine(t, p.A)
	}
	them := netip.AddrPortFrom(fam.addr(p.B), 9)
	peer, err := p.B.ListenPacket("udp", them.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	c, err := e.Dial("udp", them.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	us := c.LocalAddr().(*net.UDPAddr).AddrPort()
	return asked{TB: t, c: c, peer: peer, w: wireOf(t, p.B), a: p.A, b: p.B, us: us, them: them}
}

// inform sends the socket an error.
func (u *asked) inform(c icmpCase) {
	u.Helper()
	from, to := u.us, u.them
	if c.otherPort {
		from = netip.AddrPortFrom(from.Addr(), from.Port()^1)
	}
	if c.otherPeer {
		to = netip.AddrPortFrom(to.Addr(), to.Port()^1)
	}
	sent := udpBytes(from, to, make([]byte, 64))
	quoted := whole(u.a, u.b, from.Addr(), to.Addr(), sent)[14:]
	if c.quote > 0 {
		quoted = quoted[:c.quote]
	}
	proto, message := icmpMessage(to.Addr(), from.Addr(), c.typ, c.code, c.rest, quoted)
	if c.badSum {
		message[3] ^= 0x55
	}
	frame := whole(u.b, u.a, to.Addr(), from.Addr(), message)
	if to.Addr().Is4() {
		frame[14+9] = proto
		frame[14+10], frame[14+11] = 0, 0
		binary.BigEndian.PutUint16(frame[14+10:], checksum(frame[14:34]))
	} else {
		frame[14+6] = proto
	}
	u.w.send(frame)
}

// outcome returns what a read gives after the error: the errno, or "nothing" where
// the peer's next datagram comes.
func (u *asked) outcome(c icmpCase) string {
	u.Helper()
	u.inform(c)
	return u.next(c)
}

// next has the peer send a datagram, and returns the errors that reads give before
// it, "nothing" for none. after is what came before.
func (u *asked) next(after any) string {
	u.Helper()
	u.counter++
	want := fmt.Sprint("next ", u.counter)
	if _, err := u.peer.WriteTo([]byte(want), net.UDPAddrFromAddrPort(u.us)); err != nil {
		u.Fatal(err)
	}
	result := ""
	buf := make([]byte, 100)
	for {
		if err := u.c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			u.Fatal(err)
		}
		n, err := u.c.Read(buf)
		var errno syscall.Errno
		switch {
		case err == nil && string(buf[:n]) == want:
			if result == "" {
				return "nothing"
			}
			return result
		case errors.As(err, &errno):
			result += errno.Error() + "; "
		case errors.Is(err, os.ErrDeadlineExceeded):
			u.Fatalf("%+v: neither an error nor the datagram", after)
		default:
			u.Fatalf("%+v: read %q, %v", after, buf[:n], err)
		}
	}
}

type icmpCase struct {
	typ, code            byte
	rest                 uint32 // the second word: MTU, pointer
	quote                int    // bytes quoted; 0: all
	otherPort, otherPeer bool   // it quotes what was not sent
	badSum               bool
}

// icmpCases are errors of each type and code, and forged ones.
func icmpCases(v6 bool) (cs []icmpCase) {
	add := func(typ, codes byte, rest uint32) {
		for code := range codes {
			cs = append(cs, icmpCase{typ: typ, code: code, rest: rest})
		}
	}
	unreachable := icmpCase{typ: 3, code: 3}
	head := 20
	if v6 {
		unreachable = icmpCase{typ: 1, code: 4}
		head = 40
		add(1, 9, 0)
		add(3, 2, 0)
		add(4, 4, 6)
		cs = append(cs, icmpCase{typ: 2, rest: 1280}, icmpCase{typ: 2, rest: 1400}, icmpCase{typ: 2, rest: 100},
			icmpCase{typ: 100}, icmpCase{typ: 137})
	} else {
		add(3, 17, 0)
		add(11, 2, 0)
		add(12, 2, 8<<24)
		cs = append(cs, icmpCase{typ: 3, code: 4, rest: 1400}, icmpCase{typ: 3, code: 4, rest: 60},
			icmpCase{typ: 4}, icmpCase{typ: 5, code: 1})
	}
	for _, quote := range []int{head, head + 4, head + 8} {
		c := unreachable
		c.quote = quote
		cs = append(cs, c)
	}
	for range 3 {
		cs = append(cs, unreachable)
	}
	n := len(cs)
	cs[n-3].otherPort, cs[n-2].otherPeer, cs[n-1].badSum = true, true, true
	return cs
}

// TestICMPAsKernel: a connected UDP socket of ours reports the same error for each ICMP
// message as the kernel's (attacks 13, 14).
func TestICMPAsKernel(t *testing.T) {
	for _, fam := range families {
		t.Run(fam.name, func(t *testing.T) {
			var ends [2]asked
			for i := range ends {
				ends[i] = connectedUDP(t, fam, i == 0)
			}
			for _, c := range icmpCases(fam.name == "v6") {
				ours, kernels := ends[0].outcome(c), ends[1].outcome(c)
				if c.typ == 2 && c.rest < 1280 {
					kernels = "nothing" // RFC 8201, 4: such a message is discarded
				}
				if ours != kernels {
					t.Errorf("%+v: %s, the kernel: %s", c, ours, kernels)
				}
			}
		})
	}
}
