package stack

import (
	"bytes"
	"net/netip"
	"sync"
	"testing"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/ip"
)

// TestReassemblyTimeout: a datagram that stays incomplete is answered by an error if
// its first fragment came, is of TCP or UDP, and was for us alone; as often as the
// limiter allows.
func TestReassemblyTimeout(t *testing.T) {
	for _, dst := range []netip.Addr{addrB, six[addrB]} {
		src := addrA
		if dst.Is6() {
			src = six[addrA]
		}
		var mu sync.Mutex
		var sent [][]byte
		a, b := newPair(t, pairOptions{nic: sim.Config{TakeAll: true}, link: sim.LinkConfig{Tap: func(d sim.Dir, f []byte) {
			if d == sim.BtoA {
				mu.Lock()
				defer mu.Unlock()
				sent = append(sent, bytes.Clone(f))
			}
		}}})
		v := &victim{Stack: b, honest: udpPair(t, a, b, dst, nil)}
		v.unharmed(t, 100)
		mu.Lock()
		sent = nil
		mu.Unlock()
		part := bytes.Repeat([]byte("fragment"), 160)
		first := fragmentOf(src, dst, ip.ProtoUDP, part, 1, 0, true)
		toAll := fragmentOf(src, dst, ip.ProtoUDP, part, 2, 0, true)
		copy(toAll, bytes.Repeat([]byte{0xff}, 6))
		v.suffer(t, first, toAll,
			fragmentOf(src, dst, ip.ProtoUDP, part, 3, 1280, true),
			fragmentOf(src, dst, ip.ProtoICMP, part, 4, 0, true),
			fragmentOf(src, dst, ip.ProtoUDP, part, 5, 0, true), fragmentOf(src, dst, ip.ProtoUDP, part, 5, 1280, false)) // is whole
		expire := func() {
			locked(b, func() {
				now := b.now
				b.now += 61e9
				b.fragments.Expire(b.now)
				b.now = now // the next turn may go on from there (tryBeginAt)
			})
		}
		expire()
		mu.Lock()
		got := sent
		sent = nil
		mu.Unlock()
		if len(got) != 1 {
			t.Fatalf("%v: %d packets, want one error", dst, len(got))
		}
		var p ip.Packet
		if err := ip.Parse(got[0], len(got[0]), &p); err != nil || p.Src != dst || p.Dst != src {
			t.Fatalf("%v: %+v, %v", dst, p, err)
		}
		msg, want := got[0][p.L4Off:], [2]byte{11, 1}
		if dst.Is6() {
			want[0] = 3
		}
		if [2]byte(msg) != want || !bytes.HasPrefix(first[14:], msg[8:]) || len(msg) < 200 {
			t.Errorf("%v: message %v of %d bytes", dst, msg[:2], len(msg))
		}
		// A flood is answered as far as the limiter allows.
		for id := range uint32(4 * icmpBurst) {
			v.suffer(t, fragmentOf(src, dst, ip.ProtoUDP, part[:8], 100+id, 0, true))
		}
		expire()
		mu.Lock()
		if n := len(sent); n == 0 || n > 2*icmpBurst {
			t.Errorf("%v: %d errors for %d datagrams", dst, n, 4*icmpBurst)
		}
		mu.Unlock()
	}
}
