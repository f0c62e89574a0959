//go:build guest

package nictest

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/drivertest"
	"github.com/onload-go/onload/driver/vfio/nic"
	"github.com/onload-go/onload/internal/testlong"
	"github.com/onload-go/onload/ring"
)

// Frame is a UDP datagram with a number, whose payload follows from it.
func Frame(b []byte, number uint64, size int) []byte {
	b = b[:size]
	clear(b[:42])
	b[0], b[5], b[6], b[11] = 2, 2, 2, 1 // a bridge between the NICs wants a source
	b[12], b[14], b[22], b[23] = 0x08, 0x45, 64, 17
	be := binary.BigEndian
	be.PutUint16(b[16:], uint16(size-14))
	copy(b[26:], []byte{10, 9, 0, 1, 10, 9, 0, 2})
	sum := uint32(0)
	for i := 14; i < 34; i += 2 {
		sum += uint32(be.Uint16(b[i:]))
	}
	be.PutUint16(b[24:], ^uint16(sum+sum>>16))
	be.PutUint16(b[34:], 9)
	be.PutUint16(b[36:], 7)
	be.PutUint16(b[38:], uint16(size-34))
	be.PutUint64(b[42:], number)
	for i := 50; i < size; i++ {
		b[i] = byte(number) + byte(i)
	}
	return b
}

// sizeOf is the size of a numbered frame: each of 60 to 1514 comes.
func sizeOf(number uint64) int { return 60 + int(number*131)%1455 }

// flow sends numbered frames over a queue and checks those that come over
// another.
type flow struct {
	from, to       driver.Queue
	out, in        *ring.Arena
	mac            [6]byte // of to
	sent, received uint64
	want           []byte // scratch
}

// frame is a numbered frame for the receiver.
func (f *flow) frame(b []byte, number uint64) []byte {
	b = Frame(b, number, sizeOf(number))
	copy(b, f.mac[:])
	return b
}

// step sends some of count frames and receives some. Never more are on the way than the
// receiver's ring holds: a device without room drops.
func (f *flow) step(t *testing.T, count uint64, ds []ring.Desc) {
	for f.sent < count && f.sent-f.received < 64 && f.from.TxSpace() > 0 {
		fr, ok := f.out.Alloc()
		if !ok {
			break
		}
		b := f.frame(f.out.Bytes(fr)[ring.Headroom:], f.sent)
		if f.from.TxBatch([]ring.Desc{{Frame: fr, Off: ring.Headroom, Len: uint16(len(b))}}) != 1 {
			t.Fatal("a ring with space takes nothing")
		}
		f.out.Release(fr)
		f.sent++
	}
	if err := f.from.Kick(); err != nil {
		t.Fatal(err)
	}
	f.from.Reclaim()
	for _, d := range ds[:f.to.RxBatch(ds)] {
		b := f.in.Data(d)
		if want := f.frame(f.want, f.received); string(b) != string(want) {
			t.Fatalf("frame %d of %d bytes came otherwise, as %d bytes", f.received, len(want), len(b))
		}
		f.received++
		f.in.Free(d.Frame)
	}
	f.to.Refill()
}

// Million exchanges frames each way between two devices back to back, a million with
// -long: none is lost, changed or overtaken.
func Million(t *testing.T, a, b drivertest.End) {
	count := testlong.Pick[uint64](10_000, 1_000_000)
	x, y := a.Queues()[0], b.Queues()[0]
	for _, d := range []driver.Device{a.Device, b.Device} {
		if err := d.AddPort(17, netip.AddrPortFrom(netip.Addr{}, 7)); err != nil {
			t.Fatal(err)
		}
		d.Queues()[0].Refill()
	}
	flows := []*flow{
		{from: x, to: y, out: a.Arena(), in: b.Arena(), mac: b.MAC, want: make([]byte, 2048)},
		{from: y, to: x, out: b.Arena(), in: a.Arena(), mac: a.MAC, want: make([]byte, 2048)},
	}
	ds := make([]ring.Desc, 64)
	last, since := uint64(0), time.Now()
	for done := uint64(0); done < 2*count; done = flows[0].received + flows[1].received {
		for _, f := range flows {
			f.step(t, count, ds)
		}
		if done != last {
			last, since = done, time.Now()
		} else if time.Since(since) > time.Minute {
			t.Fatalf("nothing comes after %d and %d frames", flows[0].received, flows[1].received)
		}
		if done%64 == 0 {
			runtime.Gosched()
		}
	}
	t.Logf("%+v", x.Stats())
}

// MillionOverGuest runs Million over the two NICs of the guest.
func MillionOverGuest(t *testing.T, open func(nic.Config) (Device, error)) {
	Million(t, end(t, "NIC0", 1, nic.Config{}, open), end(t, "NIC1", 2, nic.Config{}, open))
}
