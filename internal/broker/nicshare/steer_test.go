package nicshare

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver/afxdp"
)

// Fragments follow their first to the link that it is for. One that overtook its first
// is the kernel's: it could be anybody's.
func TestReceivedFragments(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			w := newNetwork(t)
			n := w.share(mode)
			ps := []*process{start(t, w.A, n, LinkConfig{}), start(t, w.A, n, LinkConfig{})}
			w.allow(ps[0], udp, port)
			w.allow(ps[1], udp, port+1)
			for i, v6 := range []bool{false, true} {
				id := uint32(1000 * (i + 1))
				for _, to := range []uint16{0, 1, 2, 0} { // with the same identification
					if got := w.fragments(t, n, v6, port+to, &id); got != (to < 2) {
						t.Errorf("v6 %v, port %d: redirected %v", v6, to, got)
					}
				}
				w.seen(t, n, w.fragment(v6, port, id+999, 13)) // without its first
				for j, p := range ps {
					w.send(t, w.marked(v6, port+uint16(j)))
					mine, whole := 0, false
					for !whole {
						for _, f := range p.do(order{Receive: 1}) {
							if to := binary.BigEndian.Uint16(f[len(f)-2:]); to != port+uint16(j) {
								t.Errorf("v6 %v: process %d got a fragment of port %d", v6, j, to)
							}
							fragment := f[20]&0x3f != 0 || f[21] != 0
							if v6 {
								fragment = f[20] == 44
							}
							whole = !fragment
							mine++
						}
					}
					if least := 1 + 2*(2-j); mine < least {
						t.Errorf("v6 %v: process %d got %d packets of %d", v6, j, mine, least)
					}
				}
			}
		})
	}
}

// marked is an answer to a port, which ends with the port.
func (w *network) marked(v6 bool, to uint16) packet {
	p := w.out(to, v6)
	p.data = binary.BigEndian.AppendUint16(bytes.Repeat(payload, 4)[:94], to)
	return p
}

// fragment is one of a datagram of two, at offset 0 or 13.
func (w *network) fragment(v6 bool, to uint16, id uint32, offset uint16) packet {
	p := w.marked(v6, to)
	p.id, p.offset, p.more = id, offset, offset == 0
	return p
}

// fragments sends a datagram in two fragments to a port of A's, and reports whether
// both were redirected. The program forgets a first fragment after a second: on a
// machine that stalls the datagram is sent again with the next identification.
func (w *network) fragments(t *testing.T, n *NIC, v6 bool, to uint16, id *uint32) bool {
	t.Helper()
	for ; ; *id++ {
		begun := time.Now()
		got := w.seen(t, n, w.fragment(v6, to, *id, 0)) + w.seen(t, n, w.fragment(v6, to, *id, 13))
		if time.Since(begun) < time.Second {
			return got == 2
		}
	}
}

// seen sends a fragment and waits until the program has seen it: two could overtake
// each other. It returns how many were redirected.
func (w *network) seen(t *testing.T, n *NIC, p packet) uint64 {
	t.Helper()
	before, err := n.Counters()
	must(t, err)
	w.send(t, p)
	var now afxdp.Counters
	await(t, "the program sees a fragment", func() bool {
		now, err = n.Counters()
		must(t, err)
		return now.RedirectFrag+now.PassFragment+now.PassNoPort > before.RedirectFrag+before.PassFragment+before.PassNoPort
	})
	return now.RedirectFrag - before.RedirectFrag
}

// A datagram to a group goes to the link that has the group, if the kernel has no other
// socket for it, and else to the kernel.
func TestReceivedGroup(t *testing.T) {
	w := newNetwork(t)
	n := w.share(ModeGeneric)
	const priority = 5
	p := start(t, w.A, n, LinkConfig{GroupPriority: priority})
	group := netip.MustParseAddr("239.129.2.3")
	must(t, p.link.Allow(Port{udp, group, port}))
	toGroup := w.out(port, false)
	toGroup.src = netip.AddrPortFrom(group, port) // of the answer, the destination
	toGroup.mac = [6]byte{1, 0, 0x5e, 1, 2, 3}
	w.send(t, toGroup)
	if got := p.do(order{Receive: 1}); len(got) != 1 || !carries(got[0]) {
		t.Errorf("received %x", got)
	}
	// A socket of somebody else's at the port of the group.
	var other int
	must(t, w.A.Do(func() (err error) {
		if other, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return errors.Join(
			unix.SetsockoptIPMreqn(other, unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP, &unix.IPMreqn{Multiaddr: group.As4(), Ifindex: int32(w.A.Index)}),
			unix.SetsockoptTimeval(other, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(patience / time.Second)}),
			unix.Bind(other, &unix.SockaddrInet4{Port: port}))
	}))
	defer unix.Close(other)
	w.send(t, toGroup)
	buf := make([]byte, 100)
	m, _, err := unix.Recvfrom(other, buf, 0)
	if must(t, err); !bytes.Equal(buf[:m], payload) {
		t.Errorf("the other socket got %q", buf[:m])
	}
	if got := p.do(order{Drain: true}); len(got) != 0 {
		t.Errorf("the link got it too: %x", got)
	}
}

// Packets of 64 KiB that the peer's kernel has joined come whole, where the program
// runs in generic mode, and leave whole by the packet socket.
func TestLargePackets(t *testing.T) {
	w := newNetwork(t)
	n := w.share(ModeGeneric)
	p := start(t, w.A, n, LinkConfig{})
	w.allow(p, tcp, port)
	k := w.out(port, false)
	k.proto, k.data = tcp, bytes.Repeat(payload, 2600)
	frame := k.build(t)
	peer := observe(t, w.B)
	hdr := virtioHeader(needsChecksum, gsoTCPv4, 54, 1448, 34, 16)
	p.do(order{Segments: []large{{hdr, frame}}})
	if got := peer.wait(1); len(got[0]) != len(frame) {
		t.Errorf("the peer got a packet of %d bytes of %d", len(got[0]), len(frame))
	}
	w.sendLarge(t, k, hdr)
	for come := false; !come; {
		for _, got := range p.do(order{Receive: 1}) {
			// The peer's kernel answers what the process sent, too.
			if come = carries(got); come && len(got) != len(frame) {
				t.Errorf("the process got a packet of %d bytes of %d", len(got), len(frame))
			}
		}
	}
}

// The address, the MTU and the station of the interface may change at any time.
func TestInterfaceChanges(t *testing.T) {
	w := newNetwork(t)
	n := w.share(ModeGeneric)
	p := start(t, w.A, n, LinkConfig{})
	must(t, p.link.Allow(Port{udp, netip.Addr{}, port}))
	peer := observe(t, w.B)
	left := func(k packet) bool {
		before := w.counters(p)
		p.do(order{Send: [][]byte{k.build(t)}})
		w.settle(p, LinkCounters{Sent: before.Sent + before.Dropped() + 1}, "a packet")
		return w.counters(p).Sent > before.Sent
	}
	more := netip.MustParseAddr("10.77.200.1")
	k := w.out(port, false)
	other := k
	other.src = netip.AddrPortFrom(more, port)
	if !left(k) || left(other) {
		t.Error("before")
	}
	must(t, w.A.AddAddr(netip.PrefixFrom(more, 32)))
	await(t, "the new address", func() bool { return left(other) })
	must(t, w.A.DelAddr(netip.PrefixFrom(more, 32)))
	await(t, "the address goes", func() bool { return !left(other) })
	large := k
	large.data = bytes.Repeat(payload, 60)
	if !left(large) {
		t.Error("1440 bytes")
	}
	must(t, w.A.SetMTU(1000))
	await(t, "the MTU", func() bool { return !left(large) })
	moved := k
	moved.mac = [6]byte{2, 1, 2, 3, 4, 5}
	must(t, w.A.Do(func() error {
		return exec.Command("ip", "link", "set", w.A.If, "address", "02:01:02:03:04:05").Run()
	}))
	await(t, "the station", func() bool { return left(moved) && !left(k) })
	peer.frames()
}

// A port of any address is one of the interface's addresses. Packets that the host is to
// forward are the kernel's.
func TestForwarded(t *testing.T) {
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			w := newNetwork(t)
			n := w.share(mode)
			p := start(t, w.A, n, LinkConfig{})
			must(t, p.link.Allow(Port{Proto: udp, Port: port}))
			for v6, to := range map[bool]string{false: "10.99.0.1", true: "fd99::1"} {
				before, err := n.Counters()
				must(t, err)
				k := w.out(port, v6)
				k.src = netip.AddrPortFrom(netip.MustParseAddr(to), port) // of the answer, the destination
				w.send(t, k)
				await(t, "the program passes the packet", func() bool {
					now, err := n.Counters()
					must(t, err)
					return now.PassNoPort > before.PassNoPort
				})
				w.send(t, w.out(port, v6))
				if got := p.do(order{Receive: 1}); len(got) != 1 || !carries(got[0]) {
					t.Errorf("v6 %v: the process got %x", v6, got)
				}
			}
		})
	}
}
