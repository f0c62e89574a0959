package interop

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// wire puts frames on ns's interface as they are.
type wire struct {
	testing.TB
	fd    int
	index int
}

func wireOf(t testing.TB, ns *lab.NS) *wire {
	return &wire{TB: t, fd: packetSocket(t, ns, 0), index: ns.Index}
}

// everything is ETH_P_ALL in network byte order.
const everything = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8

// packetSocket is a packet socket in ns for frames of protocol, in network byte order;
// 0 receives nothing.
func packetSocket(t testing.TB, ns *lab.NS, protocol int) int {
	t.Helper()
	fd := -1
	if err := ns.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func (w *wire) send(frame []byte) {
	w.Helper()
	if err := unix.Sendto(w.fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: w.index}); err != nil {
		w.Fatal(err)
	}
}

// checksum is the Internet checksum of b (RFC 1071).
func checksum(b []byte) uint16 {
	var s uint32
	for ; len(b) >= 2; b = b[2:] {
		s += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) > 0 {
		s += uint32(b[0]) << 8
	}
	for s>>16 != 0 {
		s = s&0xffff + s>>16
	}
	return ^uint16(s)
}

// udpBytes is a UDP datagram with its checksum.
func udpBytes(src, dst netip.AddrPort, data []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, src.Port())
	b = binary.BigEndian.AppendUint16(b, dst.Port())
	b = binary.BigEndian.AppendUint16(b, uint16(8+len(data)))
	b = append(append(b, 0, 0), data...)
	pseudo := append(src.Addr().AsSlice(), dst.Addr().AsSlice()...)
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(b)))
	pseudo = append(pseudo, 0, 0, 0, 17)
	binary.BigEndian.PutUint16(b[6:], checksum(append(pseudo, b...)))
	return b
}

// piece is a fragment to be made: its bytes from off on.
type piece struct {
	off  int
	data []byte
	more bool
}

// frame is the Ethernet frame of the fragment.
func (f *piece) frame(from, to *lab.NS, src, dst netip.Addr, proto byte, id uint32) []byte {
	b := append(append([]byte{}, to.MAC[:]...), from.MAC[:]...)
	if src.Is4() {
		h := make([]byte, 20)
		h[0], h[8], h[9] = 0x45, 64, proto
		binary.BigEndian.PutUint16(h[2:], uint16(20+len(f.data)))
		binary.BigEndian.PutUint16(h[4:], uint16(id))
		field := uint16(f.off / 8)
		if f.more {
			field |= 0x2000
		}
		binary.BigEndian.PutUint16(h[6:], field)
		copy(h[12:], src.AsSlice())
		copy(h[16:], dst.AsSlice())
		binary.BigEndian.PutUint16(h[10:], checksum(h))
		return append(append(append(b, 8, 0), h...), f.data...)
	}
	h := make([]byte, 48)
	h[0], h[6], h[7], h[40] = 0x60, 44, 64, proto
	binary.BigEndian.PutUint16(h[4:], uint16(8+len(f.data)))
	copy(h[8:], src.AsSlice())
	copy(h[24:], dst.AsSlice())
	field := uint16(f.off)
	if f.more {
		field |= 1
	}
	binary.BigEndian.PutUint16(h[42:], field)
	binary.BigEndian.PutUint32(h[44:], id)
	return append(append(append(b, 0x86, 0xdd), h...), f.data...)
}

// spread changes what the kernel chooses a queue by, where ports are not seen: IPv6's
// flow label, and for IPv4 the priority in a tag without a VLAN.
func spread(r *rand.Rand, frame []byte) []byte {
	if frame[12] == 0x86 {
		binary.BigEndian.PutUint16(frame[16:], uint16(r.Uint32()))
		return frame
	}
	tag := []byte{0x81, 0, byte(r.IntN(8)) << 5, 0}
	return append(append(append([]byte{}, frame[:12]...), tag...), frame[12:]...)
}

// pieces cuts l4 into fragments of at most step bytes.
func pieces(l4 []byte, step int) (ps []piece) {
	for off := 0; off < len(l4); off += step {
		n := min(step, len(l4)-off)
		ps = append(ps, piece{off, l4[off : off+n], off+n < len(l4)})
	}
	return ps
}

// orders are all orders of n things.
func orders(n int) (all [][]int) {
	if n == 0 {
		return [][]int{nil}
	}
	for _, o := range orders(n - 1) {
		for at := 0; at <= len(o); at++ {
			all = append(all, append(append(append([]int{}, o[:at]...), n-1), o[at:]...))
		}
	}
	return all
}

// readOne reads one datagram of c and returns it.
func readOne(t testing.TB, c net.PacketConn) []byte {
	t.Helper()
	b := make([]byte, 1<<16)
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	n, _, err := c.ReadFrom(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

// Fragments come in any order, to sockets of ours, bound and connected, and to the
// kernel's beside them: each reads every datagram (row 16 of field.md).
func TestFragmentOrders(t *testing.T) {
	for _, queues := range []int{1, 2, 4} {
		for _, mode := range []onload.Mode{onload.ModeNative, onload.ModeGeneric} {
			for _, fam := range families {
				t.Run(fmt.Sprintf("%d queues/%v/%s", queues, mode, fam.name), func(t *testing.T) {
					testFragmentOrders(t, lab.Options{Queues: queues}, mode, fam, 3000, 1440)
				})
			}
		}
	}
	// Fragments of more than a page go back to the kernel in pieces.
	for _, mode := range []onload.Mode{onload.ModeNative, onload.ModeGeneric} {
		for _, fam := range families {
			t.Run(fmt.Sprintf("jumbo/%v/%s", mode, fam.name), func(t *testing.T) {
				testFragmentOrders(t, lab.Options{MTU: 9000}, mode, fam, 24_000, 8904)
			})
		}
	}
}

// testFragmentOrders sends datagrams of size bytes in three fragments of at most step
// bytes.
func testFragmentOrders(t *testing.T, o lab.Options, mode onload.Mode, fam family, size, step int) {
	o.Neighbors = true
	p := lab.NewPair(t, o)
	e := engine(t, p.A, func(c *onload.Config) { c.Mode = mode })
	w := wireOf(t, p.B)
	us, them := fam.addr(p.A), fam.addr(p.B)
	bound, err := e.ListenPacket("udp", netip.AddrPortFrom(us, 1001).String())
	if err != nil {
		t.Fatal(err)
	}
	defer bound.Close()
	peer, err := p.B.ListenPacket("udp", netip.AddrPortFrom(them, 9).String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	connected, err := e.Dial("udp", netip.AddrPortFrom(them, 9).String())
	if err != nil {
		t.Fatal(err)
	}
	defer connected.Close()
	kernels, err := p.A.ListenPacket("udp", netip.AddrPortFrom(us, 1002).String())
	if err != nil {
		t.Fatal(err)
	}
	defer kernels.Close()
	sockets := []struct {
		c    net.PacketConn
		port uint16
	}{
		{bound, 1001}, {kernels, 1002}, {connected.(net.PacketConn), connected.LocalAddr().(*net.UDPAddr).AddrPort().Port()},
	}
	r := rand.New(rand.NewPCG(1, uint64(o.Queues)))
	id := uint32(0)
	for _, order := range orders(3) {
		for round := range 3 { // the datagrams of each socket between those of the others
			var frames [][]byte
			var want [3][]byte
			for _, k := range order {
				for i, s := range sockets {
					if want[i] == nil {
						want[i] = make([]byte, size)
						for j := range want[i] {
							want[i][j] = byte(r.Uint32())
						}
					}
					l4 := udpBytes(netip.AddrPortFrom(them, 9), netip.AddrPortFrom(us, s.port), want[i])
					f := pieces(l4, step)[k]
					frames = append(frames, spread(r, f.frame(p.B, p.A, them, us, 17, id+uint32(i))))
				}
			}
			if round == 2 {
				r.Shuffle(len(frames), func(i, j int) { frames[i], frames[j] = frames[j], frames[i] })
			}
			for _, f := range frames {
				w.send(f)
			}
			id += 3
			for i, s := range sockets {
				if got := readOne(t, s.c); !bytes.Equal(got, want[i]) {
					t.Fatalf("order %v, socket %d: %d bytes, which are others", order, i, len(got))
				}
			}
		}
	}
	if f := e.Stats()[p.A.If].Fragments; f.Returned == 0 || f.Timeouts+f.Overlaps+f.Evicted+f.Malformed > 0 {
		t.Errorf("%+v", f)
	}
}
