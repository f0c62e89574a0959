package inlet

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
)

// open makes an inlet in a namespace of its own.
func open(t testing.TB) *Inlet {
	t.Helper()
	lab.NeedRoot(t)
	ns, err := lab.NewNS("inlet")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	in, err := Open(ns.Handle(), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := in.Close(); err != nil {
			t.Error(err)
		}
	})
	return in
}

// context is struct bpf_sk_lookup of <linux/bpf.h> for a packet. A test run knows no link.
func context(udp bool, local, remote netip.AddrPort) []byte {
	b := make([]byte, 72)
	u32 := func(off int, v uint32) { binary.NativeEndian.PutUint32(b[off:], v) }
	family, proto := uint32(unix.AF_INET), uint32(unix.IPPROTO_TCP)
	if udp {
		proto = unix.IPPROTO_UDP
	}
	offs := [2]int{40, 16}
	if local.Addr().Is6() {
		family, offs = unix.AF_INET6, [2]int{44, 20}
	}
	copy(b[offs[0]:], local.Addr().AsSlice())
	copy(b[offs[1]:], remote.Addr().AsSlice())
	u32(8, family)
	u32(12, proto)
	binary.BigEndian.PutUint16(b[36:], remote.Port())
	u32(60, uint32(local.Port()))
	return b
}

// takes reports whether the program gives the packet to a sink.
func (in *Inlet) takes(t *testing.T, udp bool, local, remote netip.AddrPort) bool {
	t.Helper()
	out := make([]byte, 72)
	verdict, err := in.objs.OnloadLookup.Run(&ebpf.RunOptions{Context: context(udp, local, remote), ContextOut: out})
	if err != nil {
		t.Fatal(err)
	}
	if verdict != 1 { // SK_PASS
		t.Fatalf("verdict %d", verdict)
	}
	return binary.NativeEndian.Uint64(out) != 0 // the cookie of the socket
}

// eachKind calls fn for each protocol and family, with an address of ours and one of
// the i-th peer.
func eachKind(fn func(udp bool, local netip.Addr, peer func(i int) netip.AddrPort)) {
	for _, udp := range []bool{false, true} {
		fn(udp, netip.MustParseAddr("192.0.2.1"), func(i int) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 24), byte(i >> 16)}), uint16(i))
		})
		fn(udp, netip.MustParseAddr("2001:db8::1"), func(i int) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom16([16]byte{0: 0xfd, 14: byte(i >> 24), 15: byte(i >> 16)}), uint16(i))
		})
	}
}

// TestTakesOnlyOurFlows: among a hundred thousand flows of ours at a port, the
// program takes the packets of those, and of nobody else who uses that port.
func TestTakesOnlyOurFlows(t *testing.T) {
	in := open(t)
	const n = 25_000 // of each kind
	eachKind(func(udp bool, addr netip.Addr, peer func(int) netip.AddrPort) {
		for i := range n {
			in.Add(udp, netip.AddrPortFrom(addr, 8080), peer(i))
		}
	})
	if w := in.known.without.Load(); w != 0 {
		t.Fatalf("%d flows found no room", w)
	}
	r := rand.New(rand.NewPCG(1, 2))
	eachKind(func(udp bool, addr netip.Addr, peer func(int) netip.AddrPort) {
		local := netip.AddrPortFrom(addr, 8080)
		for range 1000 {
			if p := peer(r.IntN(n)); !in.takes(t, udp, local, p) {
				t.Fatalf("udp=%v: the flow of %v and %v is not taken", udp, local, p)
			}
			p := peer(n + r.IntN(1<<30))
			if in.takes(t, udp, local, p) {
				t.Fatalf("udp=%v: %v, a client of another's, is taken at %v", udp, p, local)
			}
		}
		p := peer(7)
		for name, taken := range map[string]bool{
			"another protocol":      in.takes(t, !udp, local, peer(n+1)),
			"another port":          in.takes(t, udp, netip.AddrPortFrom(addr, 8081), p),
			"another address":       in.takes(t, udp, netip.AddrPortFrom(addr.Next(), 8080), p),
			"a flow that has ended": func() bool { in.Remove(udp, local, p); return in.takes(t, udp, local, p) }(),
		} {
			if taken {
				t.Errorf("udp=%v, %v: %s is taken", udp, local, name)
			}
		}
	})
}

// BenchmarkLookup is what the program costs for packets of flows, of others at a port
// that flows have, and of other ports.
func BenchmarkLookup(b *testing.B) {
	in := open(b)
	for i := range 100_000 {
		in.Add(false, here, netip.AddrPortFrom(there.Next(), uint16(i)))
	}
	in.Add(false, here, netip.AddrPortFrom(there, 1))
	for _, c := range []struct {
		name   string
		local  netip.AddrPort
		remote uint16
	}{{"flow", here, 1}, {"port", here, 2}, {"other", netip.AddrPortFrom(here.Addr(), 81), 1}} {
		b.Run(c.name, func(b *testing.B) {
			ctx := context(false, c.local, netip.AddrPortFrom(there, c.remote))
			if _, err := in.objs.OnloadLookup.Run(&ebpf.RunOptions{Context: ctx, Repeat: uint32(b.N)}); err != nil {
				b.Fatal(err)
			}
		})
	}
}
