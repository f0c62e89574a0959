package afxdp

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/need"
	"github.com/onload-go/onload/ring"
)

const (
	tcp = 6
	udp = 17
)

// patience bounds what would hang. No verdict depends on how fast the machine is.
const patience = time.Minute

// openAt opens ns's interface for the length of the test, filled and ready.
func openAt(t testing.TB, ns *lab.NS, c Config) *Device {
	t.Helper()
	d, err := tryOpen(ns, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func tryOpen(ns *lab.NS, c Config) (*Device, error) {
	c.Interface, c.InNS = ns.If, ns.Do
	d, err := Open(c)
	if err != nil {
		return nil, err
	}
	for _, q := range d.queues.all() {
		q.Refill()
	}
	return d, nil
}

// put lays a packet out over frames, behind the room that the device wants.
func put(t testing.TB, d *Device, b []byte) (ds []ring.Desc) {
	t.Helper()
	for len(b) > 0 {
		f, ok := d.arena.Alloc()
		if !ok {
			t.Fatal("no free frame")
		}
		off := d.caps.TxRoom
		n := copy(d.arena.Bytes(f)[off:], b)
		b = b[n:]
		ds = append(ds, ring.Desc{Frame: f, Off: uint16(off), Len: uint16(n), Flags: ring.FlagMore})
	}
	ds[len(ds)-1].Flags = 0
	return ds
}

// send transmits one packet, and drops the caller's references to its frames.
func send(t testing.TB, d *Device, q *Queue, b []byte) {
	t.Helper()
	q.Reclaim()
	ds := put(t, d, b)
	if n := q.TxBatch(ds); n != len(ds) {
		t.Fatalf("TxBatch took %d of %d", n, len(ds))
	}
	for _, x := range ds {
		d.arena.Release(x.Frame)
	}
	if err := q.Kick(); err != nil {
		t.Fatal(err)
	}
	q.Reclaim()
}

// receive returns the next packet and how many Descs it had, nil after wait.
func receive(t testing.TB, d *Device, q *Queue, wait time.Duration) (b []byte, descs int) {
	t.Helper()
	ds := make([]ring.Desc, 64)
	for end := time.Now().Add(wait); time.Now().Before(end); runtime.Gosched() {
		if err := q.Err(); err != nil {
			t.Fatal(err)
		}
		if !q.RxPending() {
			continue
		}
		// As much room as the next packet needs: one packet at a time.
		for n := 1; n <= len(ds); n++ {
			if descs = q.RxBatch(ds[:n]); descs > 0 {
				break
			}
		}
		for _, x := range ds[:descs] {
			b = append(b, d.arena.Data(x)...)
			d.arena.Free(x.Frame)
		}
		q.Refill()
		if descs > 0 {
			return b, descs
		}
	}
	return nil, 0
}

// await waits until ok holds: the kernel passes packets on, and gives frames back,
// in its own time.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// reclaim takes back the Descs that q has sent, until it has n of them.
func reclaim(t testing.TB, q *Queue, n int) {
	t.Helper()
	got := 0
	await(t, "frames come back", func() bool { got += q.Reclaim(); return got >= n })
	if got != n {
		t.Errorf("reclaimed %d, want %d", got, n)
	}
}

// sum is the Internet checksum of the parts in a row (RFC 1071); all but the
// last have an even length.
func sum(parts ...[]byte) uint16 {
	var s uint32
	b := bytes.Join(parts, nil)
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

// host is one side of a packet.
type host struct {
	mac  [6]byte
	addr netip.Addr
}

func v4of(ns *lab.NS) host { return host{ns.MAC, ns.Addr4} }
func v6of(ns *lab.NS) host { return host{ns.MAC, ns.Addr6} }

// pseudo is the pseudo-header of a transport checksum.
func pseudo(src, dst netip.Addr, proto byte, n int) []byte {
	b := append(src.AsSlice(), dst.AsSlice()...)
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	return append(b, 0, 0, 0, proto)
}

// udpOf builds a UDP datagram.
func udpOf(src, dst netip.AddrPort, data []byte) []byte {
	b := make([]byte, 8, 8+len(data))
	binary.BigEndian.PutUint16(b[0:], src.Port())
	binary.BigEndian.PutUint16(b[2:], dst.Port())
	binary.BigEndian.PutUint16(b[4:], uint16(8+len(data)))
	b = append(b, data...)
	c := sum(pseudo(src.Addr(), dst.Addr(), udp, len(b)), b)
	binary.BigEndian.PutUint16(b[6:], c)
	return b
}

// ipOf puts an IP header in front of l4. frag holds IPv4's flags and offset.
func ipOf(src, dst netip.Addr, proto byte, id, frag uint16, options int, l4 []byte) []byte {
	if src.Is6() {
		b := make([]byte, 40)
		b[0], b[6], b[7] = 0x60, proto, 64
		binary.BigEndian.PutUint16(b[4:], uint16(len(l4)))
		copy(b[8:], src.AsSlice())
		copy(b[24:], dst.AsSlice())
		return append(b, l4...)
	}
	h := 20 + options
	b := make([]byte, h)
	b[0], b[8], b[9] = 0x40|byte(h/4), 64, proto
	binary.BigEndian.PutUint16(b[2:], uint16(h+len(l4)))
	binary.BigEndian.PutUint16(b[4:], id)
	binary.BigEndian.PutUint16(b[6:], frag)
	copy(b[12:], src.AsSlice())
	copy(b[16:], dst.AsSlice())
	for i := 20; i < h; i++ {
		b[i] = 1 // no operation
	}
	binary.BigEndian.PutUint16(b[10:], sum(b))
	return append(b, l4...)
}

// ethOf puts Ethernet in front, with VLAN tags.
func ethOf(src, dst [6]byte, ip []byte, tags ...uint16) []byte {
	b := append(dst[:], src[:]...)
	for _, t := range tags {
		b = append(b, 0x81, 0)
		b = binary.BigEndian.AppendUint16(b, t)
	}
	if ip[0]>>4 == 6 {
		b = append(b, 0x86, 0xdd)
	} else {
		b = append(b, 8, 0)
	}
	return append(b, ip...)
}

// datagram is a whole frame with a UDP datagram.
func datagram(src, dst host, sport, dport uint16, data []byte) []byte {
	l4 := udpOf(netip.AddrPortFrom(src.addr, sport), netip.AddrPortFrom(dst.addr, dport), data)
	return ethOf(src.mac, dst.mac, ipOf(src.addr, dst.addr, udp, 1, 0, 0, l4))
}

// needs skips the test on a kernel without what it tests. With CI=true it fails
// instead.
func needs(t *testing.T, kernel string, has bool) {
	t.Helper()
	if !has {
		need.Missing(t, "Linux %s", kernel)
	}
}

func anyPort(p uint16) netip.AddrPort { return netip.AddrPortFrom(netip.Addr{}, p) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pattern fills n bytes that tell where they are.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i) ^ byte(i>>8) ^ byte(i>>16)
	}
	return b
}

func v4Port(ns *lab.NS, port uint16) netip.AddrPort { return netip.AddrPortFrom(ns.Addr4, port) }
