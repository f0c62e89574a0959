package tcp

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
	"testing"
	"time"
)

var (
	testLocal  = netip.MustParseAddrPort("192.0.2.1:80")
	testRemote = netip.MustParseAddrPort("198.51.100.2:40000")
	testV6     = netip.MustParseAddrPort("[2001:db8::1]:80")
	testV6Peer = netip.MustParseAddrPort("[2001:db8::2]:40000")
)

// Key and message are 00 01 02 ...; the value is that of an independent program
// that reproduces the vectors of the SipHash paper.
func TestSipHash(t *testing.T) {
	var key [16]byte
	var b [48]byte
	var msg [6]uint64
	for i := range b {
		b[i] = byte(i)
	}
	copy(key[:], b[:])
	for i := range msg {
		msg[i] = binary.LittleEndian.Uint64(b[8*i:])
	}
	if got, want := sipHash(&key, msg[:]), uint64(0xe612a3cb9ecba951); got != want {
		t.Errorf("SipHash = %#x, want %#x", got, want)
	}
}

// RFC 6528 section 3.
func TestISN(t *testing.T) {
	h := &Host{ISNKey: [16]byte{1}, TSKey: [16]byte{2}}
	a := h.ISN(testLocal, testRemote, 0)
	if got := h.ISN(testLocal, testRemote, int64(time.Second)) - a; got != 250_000 {
		t.Errorf("the clock ticked %d times in a second, want 250,000", got)
	}
	other := netip.AddrPortFrom(testRemote.Addr(), testRemote.Port()+1)
	distinct := map[uint32]string{a: "itself"}
	for name, v := range map[string]uint32{
		"another port":   h.ISN(testLocal, other, 0),
		"ends swapped":   h.ISN(testRemote, testLocal, 0),
		"IPv6":           h.ISN(testV6, testV6Peer, 0),
		"another key":    (&Host{ISNKey: [16]byte{3}}).ISN(testLocal, testRemote, 0),
		"timestamp":      h.TSOffset(testLocal, testRemote),
		"timestamp port": h.TSOffset(testLocal, other),
	} {
		if was, ok := distinct[v]; ok {
			t.Errorf("%s has the value of %s", name, was)
		}
		distinct[v] = name
	}
	off := h.TSOffset(testLocal, testRemote)
	if h.ISN(testLocal, testRemote, 9*second); h.TSOffset(testLocal, testRemote) != off {
		t.Error("the timestamp offset changes between connections of the same addresses")
	}
}

// Neighbouring ports must not have neighbouring numbers: about half of the
// bits change.
func TestISNSpread(t *testing.T) {
	h := &Host{ISNKey: [16]byte{9}}
	last, flips := uint32(0), 0
	const n = 1000
	for port := range uint16(n) {
		v := h.ISN(testLocal, netip.AddrPortFrom(testRemote.Addr(), port), 0)
		flips += bits.OnesCount32(v ^ last)
		last = v
	}
	if flips < 15*n || flips > 17*n {
		t.Errorf("%.2f of 32 bits change from port to port, want 16", float64(flips)/n)
	}
}

func BenchmarkISN(b *testing.B) {
	h := &Host{ISNKey: [16]byte{9}}
	b.ReportAllocs()
	for b.Loop() {
		h.ISN(testLocal, testRemote, 0)
	}
}
