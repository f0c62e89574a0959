package exception

import (
	"bytes"
	"net/netip"
	"os"
	"testing"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/driver/steer"
	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
)

// packet is a frame with a transport header of zeros but for the destination port.
func packet(proto uint8, src, dst string, port byte, payload int) []byte {
	var h ip.Header
	h.Init([6]byte{2, 2}, [6]byte{2, 1}, 0, netip.MustParseAddr(src), netip.MustParseAddr(dst), proto, 0, 64)
	l4 := driver.UDPHeaderLen
	if proto == ip.ProtoTCP {
		l4 = driver.TCPHeaderLen
	}
	b := make([]byte, h.Len()+l4+payload)
	h.Put(b, l4+payload, 0, 0)
	b[h.Len()+3], b[h.Len()+12] = port, driver.TCPHeaderLen/4<<4
	return b
}

// TestQueue: what the steering names is the stack's, all else is written to the TAP, and
// its frames are free again.
func TestQueue(t *testing.T) {
	inner, other, err := sim.New(sim.Config{TakeAll: true}, sim.Config{}, sim.LinkConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	d, err := New(inner, w)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	local := netip.MustParseAddrPort("10.0.0.1:7")
	if err := d.AddPort(ip.ProtoTCP, local); err != nil {
		t.Fatal(err)
	}
	ours := packet(ip.ProtoTCP, "10.0.0.2", "10.0.0.1", 7, 100)
	kernels := [][]byte{
		packet(ip.ProtoTCP, "10.0.0.2", "10.0.0.1", 22, 100),
		packet(ip.ProtoUDP, "10.0.0.2", "10.0.0.1", 7, 10),
		bytes.Repeat([]byte{0xff}, 60), // no IP
	}
	q := d.Queues()[0]
	q.Refill()
	for _, f := range [][]byte{kernels[0], ours, kernels[1], kernels[2], ours} {
		inner.Inject(0, f)
	}
	ds := make([]ring.Desc, 16)
	var got []ring.Desc
	for len(got) < 2 {
		got = append(got, ds[:q.RxBatch(ds)]...)
	}
	for _, x := range got {
		if !bytes.Equal(d.Arena().Data(x), ours) {
			t.Errorf("%x is not for the stack", d.Arena().Data(x))
		}
		d.Arena().Free(x.Frame)
	}
	d.Return(ours)
	var want []byte
	for _, f := range append(kernels, ours) {
		want = append(append(want, make([]byte, headerLen)...), f...)
	}
	b := make([]byte, 4096)
	if n, err := r.Read(b); err != nil || !bytes.Equal(b[:n], want) {
		t.Errorf("the kernel has %x, %v, want %x", b[:n], err, want)
	}
	if n := d.ReturnErrors(); n != 0 {
		t.Errorf("%d packets refused", n)
	}
	w.Close()
	if d.Return(ours); d.ReturnErrors() != 1 {
		t.Error("what the kernel refuses is not counted")
	}
}

// retirable is a NIC that can be put away.
type retirable struct {
	*sim.Device
	retired, released int
}

func (d *retirable) Retire() int {
	d.retired++
	return 3
}

func (d *retirable) Release() error {
	d.released++
	return nil
}

func (d *retirable) Detach() error { return nil }

// TestRetire: a NIC that is gone is put away and released while the engine lives on. The
// TAP goes with it, Forward ends, and Close finds nothing to do.
func TestRetire(t *testing.T) {
	one, other, err := sim.New(sim.Config{TakeAll: true}, sim.Config{}, sim.LinkConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	inner := &retirable{Device: one}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	d, err := New(inner, r)
	if err != nil {
		t.Fatal(err)
	}
	downs := 0
	d.Forward(func([]byte) {}, func() { downs++ })
	one.SetLink(false)
	if one.SetLink(false); downs != 2 {
		t.Errorf("the link was down %d times, want each", downs)
	}
	var put driver.Retirer = d
	if left := put.Retire(); left != 3 || inner.retired != 1 {
		t.Errorf("%d frames are left, retired %d times", left, inner.retired)
	}
	if err := put.Release(); err != nil || inner.released != 1 {
		t.Errorf("Release: %v, released %d times", err, inner.released)
	}
	<-d.forwarding
	if _, err := w.Write([]byte{0}); err == nil {
		t.Error("the TAP is open")
	}
	d.Stop()
	for range 2 {
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	}
}

// TestHeader: the kernel is told of checksums and segments as virtio's header has them.
func TestHeader(t *testing.T) {
	const partial, good, gso = ring.FlagCsumPartial, ring.FlagCsumGood, ring.FlagGSO
	for _, c := range []struct {
		proto uint8
		v6    bool
		flags ring.DescFlags
		want  netHeader
	}{
		{ip.ProtoTCP, false, 0, netHeader{}},
		{ip.ProtoTCP, false, good, netHeader{flags: 2}},
		{ip.ProtoTCP, false, partial, netHeader{flags: 1, csumStart: 34, csumOffset: 16}},
		{ip.ProtoUDP, true, partial, netHeader{flags: 1, csumStart: 54, csumOffset: 6}},
		{ip.ProtoTCP, false, partial | gso, netHeader{flags: 1, gsoType: 1, hdrLen: 54, gsoSize: 1000, csumStart: 34, csumOffset: 16}},
		{ip.ProtoTCP, true, good | gso, netHeader{flags: 2, gsoType: 4, hdrLen: 74, gsoSize: 1000}},
		{ip.ProtoUDP, false, good | gso, netHeader{flags: 2, gsoType: 5, hdrLen: 42, gsoSize: 1000}},
		{ip.ProtoICMP, false, good, netHeader{}},
	} {
		src, dst := "10.0.0.2", "10.0.0.1"
		if c.v6 {
			src, dst = "fd00::2", "fd00::1"
		}
		f := packet(c.proto, src, dst, 1, 100)
		q := &queue{headers: steer.Headers{}}
		whole := q.headers.Parse(f, len(f))
		if got := q.header(&ring.Desc{Flags: c.flags, SegSize: 1000}, whole); got != c.want {
			t.Errorf("%+v: %+v", c, got)
		}
	}
	var b [headerLen]byte
	if (&netHeader{flags: 1, gsoType: 4, hdrLen: 2, gsoSize: 3, csumStart: 5, csumOffset: 6}).put(b[:]); b[0] != 1 || b[1] != 4 || b[2]+b[3] != 2 || b[4]+b[5] != 3 || b[6]+b[7] != 5 || b[8]+b[9] != 6 {
		t.Errorf("written as % x", b)
	}
}
