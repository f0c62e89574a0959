package interop

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/testlong"
)

// informed is a UDP socket under test that hears of ICMP errors, and one that shows
// that they have come.
type informed struct {
	asked
	mark net.PacketConn
	to   net.Addr // of writes; nil: connected
}

// newInformed opens them: connected to the peer, bound to an address, or to all.
func newInformed(t *testing.T, fam family, kind string, ours bool) *informed {
	t.Helper()
	p := lab.NewPair(t, lab.Options{Neighbors: true})
	var e host = p.A
	if ours {
		e = engine(t, p.A)
	}
	listen := func(e packetHost, address string) net.PacketConn {
		c, err := e.ListenPacket("udp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	self := netip.AddrPortFrom(fam.addr(p.A), 0)
	them := netip.AddrPortFrom(fam.addr(p.B), 9)
	u := &informed{mark: listen(e.(packetHost), self.String())}
	u.asked = asked{TB: t, peer: listen(p.B, them.String()), w: wireOf(t, p.B), a: p.A.NS, b: p.B.NS, them: them}
	switch kind {
	case "connected":
		c, err := e.Dial("udp", them.String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		u.c = c
	case "bound":
		u.c = listen(e.(packetHost), self.String()).(net.Conn)
	case "wildcard":
		u.c = listen(e.(packetHost), ":0").(net.Conn)
	}
	if kind != "connected" {
		u.to = net.UDPAddrFromAddrPort(them)
	}
	u.us = netip.AddrPortFrom(self.Addr(), u.c.LocalAddr().(*net.UDPAddr).AddrPort().Port())
	return u
}

// arrived waits until what was sent to the socket has come.
func (u *informed) arrived() {
	u.Helper()
	if _, err := u.peer.WriteTo([]byte("mark"), u.mark.LocalAddr()); err != nil {
		u.Fatal(err)
	}
	readOne(u, u.mark)
}

// write returns the error of a datagram of n bytes.
func (u *informed) write(n int) string {
	u.Helper()
	var err error
	if b := make([]byte, n); u.to == nil {
		_, err = u.c.Write(b)
	} else {
		_, err = u.c.(net.PacketConn).WriteTo(b, u.to)
	}
	var errno syscall.Errno
	switch {
	case err == nil:
		return "written"
	case errors.As(err, &errno):
		return errno.Error()
	}
	u.Fatal(err)
	return ""
}

// icmpStep is some errors, and the call that follows them.
type icmpStep struct {
	cases []icmpCase
	write int // bytes; below 0: a read
}

// try returns the results of the steps.
func (u *informed) try(steps []icmpStep) (results []string) {
	u.Helper()
	for _, s := range steps {
		for _, c := range s.cases {
			u.inform(c)
		}
		u.arrived()
		if s.write < 0 {
			results = append(results, u.next(s))
		} else {
			results = append(results, u.write(s.write))
		}
	}
	return append(results, u.next("the end"))
}

// TestICMPRandom: after any ICMP errors, true and forged, reads and writes of a UDP
// socket of ours, connected or not, return what the kernel's return. With -long,
// thousands of sequences.
func TestICMPRandom(t *testing.T) {
	count := testlong.Pick(100, 3000)
	if testing.Short() {
		count = 10
	}
	for _, fam := range families {
		for _, kind := range []string{"connected", "bound", "wildcard"} {
			t.Run(fam.name+" "+kind, func(t *testing.T) {
				oneProcessor(t)
				ours, kernels := newInformed(t, fam, kind, true), newInformed(t, fam, kind, false)
				cases := icmpCases(fam.name == "v6")
				failures, reported := 0, 0
				for seed := range count {
					r := rand.New(rand.NewPCG(uint64(seed), 13))
					var steps []icmpStep
					for range 1 + r.IntN(4) {
						s := icmpStep{write: []int{-1, -1, -1, 0, 1300, 3000}[r.IntN(6)]}
						for range r.IntN(4) {
							// RFC 8201, 4: what asks for less than 1280 is discarded, the kernel reports it.
							if c := cases[r.IntN(len(cases))]; c.typ != 2 || c.rest >= 1280 {
								s.cases = append(s.cases, c)
							}
						}
						steps = append(steps, s)
					}
					o, k := ours.try(steps), kernels.try(steps)
					if slices.ContainsFunc(k, func(s string) bool { return s != "written" && s != "nothing" }) {
						reported++
					}
					if slices.Equal(o, k) {
						continue
					}
					t.Errorf("seed %d: %+v:\nours:       %q\nthe kernel: %q", seed, steps, o, k)
					if failures++; failures > 5 {
						t.FailNow()
					}
				}
				if connected := kind == "connected"; connected != (reported > 0) {
					t.Errorf("the kernel's socket was told of errors in %d of %d cases", reported, count)
				}
			})
		}
	}
}
