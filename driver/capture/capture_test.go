package capture

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/internal/allocs"
	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
	"github.com/onload-go/onload/ring"
)

// ends is a link of which the first device is captured.
func ends(t testing.TB, c *Capture) (a driver.Device, b *sim.Device) {
	t.Helper()
	cfg := sim.Config{Name: fmt.Sprint("link", len(c.taps)), TakeAll: true, MTU: 9000, TxRing: 256, RxRing: 256}
	x, y, err := sim.New(cfg, cfg, sim.LinkConfig{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close(); y.Close() })
	a, err = c.WrapDevice(x)
	if err != nil {
		t.Fatal(err)
	}
	a.Queues()[0].Refill()
	y.Queues()[0].Refill()
	return a, y
}

func frame(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i) + seed
	}
	return b
}

func send(t testing.TB, d driver.Device, p []byte) {
	t.Helper()
	q, a := d.Queues()[0], d.Arena()
	var ds []ring.Desc
	for len(p) > 0 {
		f, ok := a.Alloc()
		if !ok {
			t.Fatal("no frame")
		}
		n := copy(a.Bytes(f)[100:], p[:min(len(p), 1000)])
		ds = append(ds, ring.Desc{Frame: f, Off: 100, Len: uint16(n), Flags: ring.FlagMore})
		p = p[n:]
	}
	ds[len(ds)-1].Flags = 0
	if q.TxBatch(ds) != len(ds) {
		t.Fatal("not taken")
	}
	if err := q.Kick(); err != nil {
		t.Fatal(err)
	}
	for _, d := range ds {
		a.Release(d.Frame)
	}
	q.Reclaim()
}

func receive(d driver.Device) (n int) {
	q := d.Queues()[0]
	ds := make([]ring.Desc, 64)
	for k := q.RxBatch(ds); k > 0; k = q.RxBatch(ds) {
		n += k
		for _, x := range ds[:k] {
			d.Arena().Free(x.Frame)
		}
		q.Refill()
	}
	return n
}

// The file reads back as what was sent and received.
func TestReadBack(t *testing.T) {
	var file bytes.Buffer
	start := time.Now()
	c, err := New(&file, Options{SnapLen: 4000})
	if err != nil {
		t.Fatal(err)
	}
	a, b := ends(t, c)
	type packet struct {
		data []byte
		dir  pcapgo.NgEpbFlag
	}
	var want []packet
	for i := range 300 {
		p := frame(60+i*29, byte(i))
		if i%2 == 0 {
			send(t, a, p)
			want = append(want, packet{p, pcapgo.NgEpbFlagDirectionOutbound})
			receive(b)
		} else {
			send(t, b, p)
			receive(a)
			want = append(want, packet{p, pcapgo.NgEpbFlagDirectionInbound})
		}
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if s := c.Stats(); s.Written != 300 || s.Dropped != 0 {
		t.Errorf("%+v", s)
	}
	send(t, a, frame(60, 0)) // without the capture, all goes on
	if receive(b) != 1 {
		t.Error("no packet after Close")
	}
	if c.Close() != nil || c.Stats().Written != 300 {
		t.Error("second Close")
	}

	r, err := pcapgo.NewNgReader(&file, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		t.Fatal(err)
	}
	last := start.Add(-time.Second)
	for i, w := range want {
		data, ci, opt, err := r.ReadPacketDataWithOptions()
		if err != nil {
			t.Fatalf("packet %d: %v", i, err)
		}
		if ci.Length != len(w.data) || !bytes.Equal(data, w.data[:min(len(w.data), 4000)]) {
			t.Fatalf("packet %d: other bytes", i)
		}
		if opt.Flags == nil || opt.Flags.Direction != w.dir || opt.Queue == nil || *opt.Queue != 0 {
			t.Errorf("packet %d: direction or queue", i)
		}
		if ci.Timestamp.Before(last) || ci.Timestamp.After(time.Now()) {
			t.Errorf("packet %d: time %v", i, ci.Timestamp)
		}
		last = ci.Timestamp
	}
	if _, _, err := r.ReadPacketData(); err != io.EOF {
		t.Errorf("after the last packet: %v", err)
	}
	intf, err := r.Interface(0)
	if err != nil || intf.Name != a.Name() || intf.LinkType != layers.LinkTypeEthernet || intf.SnapLength != 4000 {
		t.Errorf("%+v, %v", intf, err)
	}
}

// A capture without packets is a valid file.
func TestEmpty(t *testing.T) {
	var file bytes.Buffer
	c, err := New(&file, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := pcapgo.NewNgReader(&file, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.ReadPacketData(); err != io.EOF {
		t.Errorf("%v", err)
	}
}

// gate is a file that stands still.
type gate struct{ open chan struct{} }

func (g gate) Write(p []byte) (int, error) {
	<-g.open
	return len(p), nil
}

// A file that stands still drops packets of the capture, and stops nobody.
func TestNeverBlocks(t *testing.T) {
	g := gate{make(chan struct{})}
	c, err := New(g, Options{Buffer: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	a, b := ends(t, c)
	const n = 1000
	for range n {
		send(t, a, frame(1000, 0))
		if receive(b) != 1 {
			t.Fatal("the packet did not come")
		}
	}
	if c.Stats().Dropped < n/2 {
		t.Errorf("%+v", c.Stats())
	}
	close(g.open)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if s := c.Stats(); s.Written+s.Dropped != n || s.Written == 0 {
		t.Errorf("%+v", s)
	}
}

type broken struct{ n int }

var errDisk = errors.New("disk full")

func (b *broken) Write(p []byte) (int, error) {
	if b.n += len(p); b.n > 20000 {
		return 0, errDisk
	}
	return len(p), nil
}

func TestBrokenFile(t *testing.T) {
	c, err := New(&broken{}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	a, b := ends(t, c)
	for range 100 {
		send(t, a, frame(1000, 0))
		receive(b)
	}
	if err := c.Close(); !errors.Is(err, errDisk) {
		t.Errorf("Close: %v", err)
	}
	if s := c.Stats(); s.Written+s.Dropped != 100 || s.Dropped == 0 {
		t.Errorf("%+v", s)
	}
	if _, err := New(io.Discard, Options{SnapLen: -1}); err == nil {
		t.Error("nonsense was taken")
	}
}

// Several stacks and one writer; the file stays readable.
func TestConcurrent(t *testing.T) {
	var file bytes.Buffer
	c, err := New(&file, Options{Buffer: 16 << 10})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 3 {
		a, b := ends(t, c)
		wg.Add(1)
		go func() {
			defer wg.Done()
			for k := range 2000 {
				send(t, a, frame(20+k%1000, byte(i)))
				receive(b)
				if k%100 == 0 {
					time.Sleep(time.Millisecond)
				}
			}
		}()
	}
	wg.Wait()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	s := c.Stats()
	if s.Written+s.Dropped != 6000 || s.Written == 0 {
		t.Errorf("%+v", s)
	}
	r, err := pcapgo.NewNgReader(&file, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		t.Fatal(err)
	}
	for n := uint64(0); ; n++ {
		data, ci, err := r.ReadPacketData()
		if err == io.EOF && n == s.Written {
			return
		}
		if err != nil {
			t.Fatalf("packet %d of %d: %v", n, s.Written, err)
		}
		l, err := r.Interface(ci.InterfaceIndex)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(data, frame(len(data), l.Name[len("link")]-'0')) {
			t.Fatalf("packet %d: torn", n)
		}
	}
}

func TestAllocs(t *testing.T) {
	g := gate{make(chan struct{})}
	c, err := New(g, Options{Buffer: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	a, b := ends(t, c)
	q := a.Queues()[0].(*queue)
	f, _ := a.Arena().Alloc()
	ds := []ring.Desc{{Frame: f, Len: 1500}}
	step := func() {
		q.TxBatch(ds)
		q.Kick()
		q.Reclaim()
		r := b.Queues()[0]
		var out [4]ring.Desc
		for _, d := range out[:r.RxBatch(out[:])] {
			b.Arena().Free(d.Frame)
		}
		r.Refill()
	}
	for range 5 {
		step()
	}
	time.Sleep(20 * interval) // the writer stands still at the gate
	if n := allocs.PerRun(500, func() { q.tap.Sent(&q.at, ds) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	close(g.open)
	c.Close()
}

func BenchmarkRecord(b *testing.B) {
	c, err := New(io.Discard, Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	a, _ := ends(b, c)
	q := a.Queues()[0].(*queue)
	f, _ := a.Arena().Alloc()
	ds := []ring.Desc{{Frame: f, Len: 1500}}
	b.ReportAllocs()
	for b.Loop() {
		q.tap.Sent(&q.at, ds)
	}
	b.ReportMetric(float64(c.Stats().Dropped)/float64(b.N), "dropped/op")
}
