package stack

import (
	"net/netip"
	"testing"

	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/tcp"
)

// Knowledge from one packet serves the next only where it is true of that one:
// after a segment that was dropped in between, from others, or of another flow of
// the same host.
func TestRepeatedHeaders(t *testing.T) {
	v := newVictim(t)
	a := v.honest.s
	c, s := connect(t, a, v.Stack, addrB)
	other := netip.AddrPortFrom(netip.MustParseAddr("10.0.0.77"), c.LocalAddr().Port())
	from := func(src netip.AddrPort, f forged) []byte {
		return packetOf(src.Addr(), addrB, ip.ProtoTCP, tcpOf(src, c.RemoteAddr(), f))
	}
	bad := from(other, forged{flags: tcp.FlagACK})
	bad[34+12] = 3 << 4 // data offset
	stray := from(other, forged{flags: tcp.FlagACK, data: []byte("not of this connection")})
	own := from(c.LocalAddr(), forged{flags: tcp.FlagACK, seq: 1, ack: 1}) // outside of the window
	resets := func() uint64 { return v.counters.txResets.Load() }
	for i, step := range []struct {
		frames [][]byte
		resets uint64
	}{
		{[][]byte{bad, stray}, 1},
		{[][]byte{stray, stray}, 2},
		{[][]byte{own, bad, stray}, 1},
		{[][]byte{own, own, bad, stray, bad, stray, own}, 2},
		{[][]byte{stray, own, stray}, 2},
	} {
		before, segs := resets(), s.segsIn(t)
		v.suffer(t, step.frames...)
		if n := resets() - before; n != step.resets {
			t.Errorf("step %d: %d resets, want %d", i, n, step.resets)
		}
		want := uint64(len(step.frames)) - step.resets
		for _, f := range step.frames {
			if &f[0] == &bad[0] {
				want--
			}
		}
		if n := s.segsIn(t) - segs; n != want {
			t.Errorf("step %d: the connection got %d segments, want %d", i, n, want)
		}
	}
	if n := v.counters.rxChecksum.Load(); n != 0 {
		t.Errorf("%d wrong checksums", n)
	}
	p := make([]byte, 10)
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Read(p); err != nil || string(p[:n]) != "hello" {
		t.Fatalf("%q, %v", p[:n], err)
	}
}

func (c *TCPConn) segsIn(t *testing.T) (n uint64) {
	t.Helper()
	if err := c.control(func() { n = uint64(c.tc.Info(c.s.now).SegsIn) }); err != nil {
		t.Fatal(err)
	}
	return n
}
