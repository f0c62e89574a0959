package afxdp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

// unsummed is a datagram whose checksum the device is to complete.
func unsummed(t *testing.T, d *Device, src, dst host, data []byte) []ring.Desc {
	t.Helper()
	b := datagram(src, dst, 1000, 80, data)
	l4 := len(b) - len(data) - 8
	binary.BigEndian.PutUint16(b[l4+6:], ip.PseudoSum(src.addr, dst.addr, udp, 8+len(data)))
	ds := put(t, d, b)
	ds[0].Flags |= ring.FlagCsumPartial
	ds[0].CsumStart, ds[0].CsumOff = uint16(l4), 6
	return ds
}

func transmit(t *testing.T, d *Device, q *Queue, ds []ring.Desc) {
	t.Helper()
	if n := q.TxBatch(ds); n != len(ds) {
		t.Fatalf("TxBatch took %d of %d", n, len(ds))
	}
	for _, x := range ds {
		d.arena.Release(x.Frame)
	}
	must(t, q.Kick())
	q.Reclaim()
}

// A kernel socket gets datagrams whose checksums were left to the device: it
// drops those that are wrong. Where the link does not complete them the caps
// say so.
func TestTxChecksumKernel(t *testing.T) {
	p := lab.NewPair(t, lab.Options{MTU: 9000, Neighbors: true})
	a := openAt(t, p.A, Config{})
	needs(t, "6.11", a.Caps().TxCsum)
	for name, dst := range map[string]host{"v4": v4of(p.B), "v6": v6of(p.B)} {
		src := v4of(p.A)
		if name == "v6" {
			src = v6of(p.A)
		}
		c, err := p.B.ListenPacket("udp", net.JoinHostPort(dst.addr.String(), "80"))
		must(t, err)
		defer c.Close()
		for _, n := range []int{0, 1, 1400, 8000} { // the last in several frames
			t.Run(fmt.Sprintf("%s/%d", name, n), func(t *testing.T) {
				transmit(t, a, a.queues.all()[0], unsummed(t, a, src, dst, pattern(n)))
				must(t, c.SetReadDeadline(time.Now().Add(patience)))
				b := make([]byte, 9000)
				k, _, err := c.ReadFrom(b)
				if err != nil || !bytes.Equal(b[:k], pattern(n)) {
					t.Errorf("read %d bytes, %v", k, err)
				}
			})
		}
	}
}

// Another AF_XDP socket sees what a kernel peer leaves in the field, the
// pseudo-header's sum; what has its checksum keeps it.
func TestTxChecksumXDP(t *testing.T) {
	p := lab.NewPair(t, lab.Options{Neighbors: true})
	a, b := openAt(t, p.A, Config{}), openAt(t, p.B, Config{})
	needs(t, "6.11", a.Caps().TxCsum)
	must(t, b.AddPort(udp, anyPort(80)))
	src, dst := v4of(p.A), v4of(p.B)
	data := pattern(100)
	for _, partial := range []bool{true, false} {
		want := datagram(src, dst, 1000, 80, data)
		ds := put(t, a, want)
		if partial {
			ds = unsummed(t, a, src, dst, data)
			binary.BigEndian.PutUint16(want[34+6:], ip.PseudoSum(src.addr, dst.addr, udp, 8+len(data)))
		}
		transmit(t, a, a.queues.all()[0], ds)
		got, _ := receive(t, b, b.queues.all()[0], patience)
		if !bytes.Equal(got, want) {
			t.Errorf("partial=%v: got % x, want % x", partial, got, want)
		}
	}
}

// Where checksums are not left to the device the caps say so, and a packet
// that wants it is dropped like all that the kernel would refuse.
func TestTxChecksumOff(t *testing.T) {
	for name, tt := range map[string]struct {
		link   lab.Options
		config Config
	}{
		"off":  {config: Config{Offloads: OffloadsOff}},
		"link": {link: lab.Options{NoTxCsum: true}},
	} {
		t.Run(name, func(t *testing.T) {
			p := lab.NewPair(t, tt.link)
			a := openAt(t, p.A, tt.config)
			if a.Caps().TxCsum {
				t.Fatal("the caps promise checksums")
			}
			transmit(t, a, a.queues.all()[0], unsummed(t, a, v4of(p.A), v4of(p.B), pattern(10)))
			if s := a.queues.all()[0].Stats(); s.TxInvalid != 1 || s.TxPackets != 0 {
				t.Errorf("%d refused, %d sent", s.TxInvalid, s.TxPackets)
			}
		})
	}
}

// The kernel never returns the frame of a Desc that it refuses: one without
// room for metadata, or with the field outside.
func TestTxChecksumRefused(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	a := openAt(t, p.A, Config{Offloads: OffloadsChecksum})
	needs(t, "6.11", a.Caps().TxCsum)
	if a.Caps().TSO != 0 {
		t.Fatalf("TSO %d", a.Caps().TSO)
	}
	q := a.queues.all()[0]
	for name, spoil := range map[string]func(d *ring.Desc){
		"room":  func(d *ring.Desc) { d.Off = txMetaLen - 1 },
		"plain": func(d *ring.Desc) { d.Off, d.Flags = 0, 0 },
		"field": func(d *ring.Desc) { d.CsumOff = d.Len - 1 },
		"start": func(d *ring.Desc) { d.CsumStart = 65535 },
	} {
		before, free := q.Stats().TxInvalid, a.arena.FreeFrames()
		ds := unsummed(t, a, v4of(p.A), v4of(p.B), pattern(10))
		spoil(&ds[0])
		transmit(t, a, q, ds)
		if got := q.Stats().TxInvalid - before; got != 1 {
			t.Errorf("%s: %d refused", name, got)
		}
		if now := a.arena.FreeFrames(); now != free {
			t.Errorf("%s: %d frames free, %d before", name, now, free)
		}
	}
}
