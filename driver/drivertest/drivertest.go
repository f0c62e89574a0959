// Package drivertest is the contract of package driver as code: a suite that
// every driver passes.
package drivertest

import (
	"bytes"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/internal/need"
	"github.com/onload-go/onload/ring"
)

// Ends is a link between two devices of the driver under test, fresh for each test.
// Each has one queue. Whoever opened them closes them; the suite may have closed
// them before.
type Ends struct {
	A, B End

	// Without lists the tests of the suite for capabilities that the devices are
	// not meant to have: their names, such as "Checksum" and "Segment". Any other
	// missing capability is a fault of the driver, or of the machine.
	Without []string

	// Stray says that B's device interrupts at times although no packet came. What
	// a queue must not do is then tried until no such interrupt disturbs.
	Stray bool

	// SetLink takes the link of A down and up; nil if nothing can.
	SetLink func(t *testing.T, up bool)

	// Break takes A away for good, like a NIC that is unplugged; nil if nothing
	// can.
	Break func(t *testing.T)
}

// needs ends the test called name if the devices lack what it tests.
func (l *Ends) needs(t *testing.T, name string, has bool) {
	t.Helper()
	switch without := slices.Contains(l.Without, name); {
	case has && without:
		t.Errorf("the devices have what Ends.Without says they lack: %s", name)
	case has:
	case without:
		t.SkipNow() // as Ends.Without says
	default:
		need.Missing(t, "devices that can do %s", name)
	}
}

// End is one end of a link, with the addresses that its packets bear.
type End struct {
	driver.Device
	MAC          [6]byte
	Addr4, Addr6 netip.Addr
}

// Run runs the suite. The open function returns ends that nobody used yet, with
// an MTU that exceeds the arena's frames where the driver can do that.
func Run(t *testing.T, open func(t *testing.T) *Ends) {
	for name, test := range map[string]func(*testing.T, *Ends){
		"Caps":        testCaps,
		"Refill":      testRefill,
		"Exchange":    testExchange,
		"WholePacket": testWholePacket,
		"RingFull":    testRingFull,
		"Invalid":     testInvalid,
		"Checksum":    testChecksum,
		"Segment":     testSegment,
		"NoKick":      testNoKick,
		"Arm":         testArm,
		"Edges":       testEdges,
		"Ports":       testPorts,
		"Flows":       testFlows,
		"LinkDown":    testLinkDown,
		"Broken":      testBroken,
		"Closed":      testClosed,
		"Lockless":    testLockless,
		"Allocations": testAllocations,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// patience is how long a test waits for what must come. Only a failure takes so
// long.
const patience = time.Minute

func (e *End) queue() driver.Queue { return e.Queues()[0] }

// place puts a packet into frames of at most size bytes, 0 for as much as fits.
func (e *End) place(t testing.TB, b []byte, size int) (ds []ring.Desc) {
	t.Helper()
	a := e.Arena()
	if size == 0 {
		size = a.FrameSize() - ring.Headroom
	}
	for len(b) > 0 {
		f, ok := a.Alloc()
		if !ok {
			t.Fatal("no free frame")
		}
		n := copy(a.Bytes(f)[ring.Headroom:], b[:min(size, len(b))])
		ds = append(ds, ring.Desc{Frame: f, Off: ring.Headroom, Len: uint16(n), Flags: ring.FlagMore})
		b = b[n:]
	}
	ds[len(ds)-1].Flags = 0
	return ds
}

// release drops the owner's reference to each frame.
func (e *End) release(ds []ring.Desc) {
	for _, d := range ds {
		e.Arena().Release(d.Frame)
	}
}

// post puts all of ds on the ring, and lets go of the frames.
func (e *End) post(t testing.TB, ds []ring.Desc) {
	t.Helper()
	q := e.queue()
	room := min(len(ds), q.Caps().TxRing) // of a packet that never fits, a device that takes it drops all
	for start := time.Now(); q.TxSpace() < room && time.Since(start) < patience; runtime.Gosched() {
		q.Reclaim()
	}
	if n := q.TxBatch(ds); n != len(ds) {
		t.Fatalf("TxBatch took %d of %d Descs", n, len(ds))
	}
	e.release(ds)
}

// kick kicks until the device has taken everything.
func (e *End) kick(t testing.TB) {
	t.Helper()
	q := e.queue()
	for start := time.Now(); ; runtime.Gosched() {
		err := q.Kick()
		q.Reclaim()
		if err == nil {
			return
		}
		if err != unix.EAGAIN || time.Since(start) > patience {
			t.Fatalf("Kick: %v", err)
		}
	}
}

// send transmits one packet.
func (e *End) send(t testing.TB, b []byte) {
	t.Helper()
	e.post(t, e.place(t, b, 0))
	e.kick(t)
}

// batch receives what is there, without waiting.
func (e *End) batch(t testing.TB) (packets [][]byte) {
	t.Helper()
	q, ds := e.queue(), make([]ring.Desc, 64)
	n := q.RxBatch(ds)
	for rest := ds[:n]; len(rest) > 0; {
		k, size := ring.PacketLen(rest)
		if rest[k-1].Flags&ring.FlagMore != 0 {
			t.Fatal("RxBatch cut a packet")
		}
		b := make([]byte, 0, size)
		for _, d := range rest[:k] {
			b = append(b, e.Arena().Data(d)...)
			e.Arena().Free(d.Frame) // panics where there is not one reference
		}
		packets = append(packets, b)
		rest = rest[k:]
	}
	q.Refill()
	return packets
}

// receive returns the next n packets.
func (e *End) receive(t testing.TB, n int) (packets [][]byte) {
	t.Helper()
	for start := time.Now(); len(packets) < n; runtime.Gosched() {
		if err := e.queue().Err(); err != nil {
			t.Fatal(err)
		}
		if packets = append(packets, e.batch(t)...); time.Since(start) > patience {
			t.Fatalf("%d of %d packets came, %+v", len(packets), n, e.queue().Stats())
		}
	}
	return packets
}

// receiveUntil returns the packets before last, which was sent behind them.
func (e *End) receiveUntil(t testing.TB, last []byte) (before [][]byte) {
	t.Helper()
	for start := time.Now(); time.Since(start) < patience; runtime.Gosched() {
		for _, b := range e.batch(t) {
			if bytes.Equal(b, last) {
				return before
			}
			before = append(before, b)
		}
	}
	t.Fatal("the last packet did not come")
	return nil
}

// settled waits until the queue holds no frame that was sent, and returns the
// number of free frames.
func (e *End) settled(t testing.TB) int {
	t.Helper()
	q := e.queue()
	for start := time.Now(); q.TxSpace() != q.Caps().TxRing; runtime.Gosched() {
		if q.Reclaim(); time.Since(start) > patience {
			t.Fatalf("%d of %d places on the ring are not given back", q.Caps().TxRing-q.TxSpace(), q.Caps().TxRing)
		}
	}
	return e.Arena().FreeFrames()
}

// ready lends both queues frames and steers to B, port 7 over UDP and TCP.
func (l *Ends) ready(t testing.TB) {
	t.Helper()
	l.A.queue().Refill()
	l.B.queue().Refill()
	for _, proto := range []uint8{tcp, udp} {
		if err := l.B.AddPort(proto, netip.AddrPortFrom(netip.Addr{}, port)); err != nil {
			t.Fatal(err)
		}
	}
}
