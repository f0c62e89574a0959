package drivertest

import (
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ring"
)

// A link that was down works again, and what Kick left on the ring leaves then.
func testLinkDown(t *testing.T, l *Ends) {
	l.needs(t, "LinkDown", l.SetLink != nil)
	l.ready(t)
	q := l.A.queue()
	l.SetLink(t, false)
	first, second := l.datagram(100, 1), l.datagram(100, 2)
	l.A.post(t, l.A.place(t, first, 0))
	down := q.Kick()
	if down != nil && down != unix.ENETDOWN || q.Err() != nil {
		t.Fatalf("down: Kick %v, Err %v", down, q.Err())
	}
	l.SetLink(t, true)
	deadline := time.Now().Add(patience)
	var came [][]byte
	if down != nil {
		for ; len(came) == 0; runtime.Gosched() {
			if err := q.Kick(); err != nil && err != unix.ENETDOWN && err != unix.EAGAIN {
				t.Fatalf("up again: Kick %v", err)
			}
			q.Reclaim()
			if came = l.B.batch(t); time.Now().After(deadline) {
				t.Fatal("up again: what was on the ring did not leave")
			}
		}
		if string(came[0]) != string(first) {
			t.Error("something else came")
		}
	}
	for came = nil; len(came) == 0; time.Sleep(time.Millisecond) { // a link takes its time to come up
		l.A.send(t, second)
		if came = l.B.batch(t); time.Now().After(deadline) {
			t.Fatal("up again: nothing comes")
		}
	}
	if q.Err() != nil {
		t.Error(q.Err())
	}
}

// ended wants a queue that is broken for good.
func ended(t *testing.T, e *End, q driver.Queue) {
	t.Helper()
	err := q.Err()
	if err == nil {
		t.Fatal("Err is nil")
	}
	ds := []ring.Desc{{Off: ring.Headroom, Len: 60}}
	if q.RxBatch(ds) != 0 || q.TxBatch(ds) != 0 || q.TxSpace() != 0 || q.Lacks() != 0 || q.Reclaim() != 0 {
		t.Error("the queue goes on")
	}
	q.Refill()
	if q.RxPending() {
		t.Error("RxPending")
	}
	if k := q.Kick(); k == nil || k.Error() != err.Error() {
		t.Errorf("Kick %v, Err %v", k, err)
	}
	if !q.Arm() {
		t.Error("Arm lets its caller sleep")
	}
	q.Disarm()
	if q.Err().Error() != err.Error() {
		t.Errorf("Err became %v, was %v", q.Err(), err)
	}
}

// A device that is gone breaks its queue, and closing it changes nothing.
func testBroken(t *testing.T, l *Ends) {
	l.needs(t, "Broken", l.Break != nil)
	l.ready(t)
	q := l.A.queue()
	pkt := l.A.place(t, l.datagram(100, 1), 0)
	l.Break(t)
	for start := time.Now(); q.Err() == nil; time.Sleep(time.Millisecond) {
		q.TxBatch(pkt)
		_ = q.Kick() // Err has it
		q.Arm()
		if q.Disarm(); time.Since(start) > patience {
			t.Fatal("the queue does not notice")
		}
	}
	ended(t, &l.A, q)
	err := q.Err()
	if e := l.A.Close(); e != nil {
		t.Log("Close of a device that is gone:", e)
	}
	ended(t, &l.A, q)
	if q.Err().Error() != err.Error() {
		t.Errorf("Err became %v, was %v", q.Err(), err)
	}
}

func testClosed(t *testing.T, l *Ends) {
	l.ready(t)
	q := l.A.queue()
	l.A.send(t, l.datagram(100, 1))
	l.B.receive(t, 1)
	local := netip.AddrPortFrom(l.A.Addr4, 80)
	must(t, l.A.AddPort(tcp, local))
	if err := l.A.Close(); err != nil {
		t.Fatal(err)
	}
	ended(t, &l.A, q)
	if q.WaitFD() != -1 || q.EdgeFD() != -1 {
		t.Errorf("WaitFD %d, EdgeFD %d", q.WaitFD(), q.EdgeFD())
	}
	if s := q.Stats(); s.TxPackets != 1 {
		t.Errorf("the counters are gone: %+v", s)
	}
	if err := l.A.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if l.A.AddPort(tcp, local) == nil || l.A.AddFlow(tcp, local, netip.AddrPortFrom(l.B.Addr4, 9), true) == nil {
		t.Error("entries after Close")
	}
	must(t, l.A.RemovePort(tcp, local))
}

// The methods that need no lock may be called while others send, receive and close.
// The race detector decides.
func testLockless(t *testing.T, l *Ends) {
	l.ready(t)
	stop := make(chan struct{})
	var busy sync.WaitGroup
	for _, q := range []driver.Queue{l.A.queue(), l.B.queue()} {
		busy.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					q.RxPending()
					q.NoEdges()
					q.Stats()
					_ = q.Err() // changes at any time
					q.Caps()
					runtime.Gosched()
				}
			}
		})
	}
	for i := range 100 {
		l.A.send(t, l.datagram(100, byte(i)))
		l.B.receive(t, 1)
	}
	must(t, l.A.Close())
	must(t, l.B.Close())
	close(stop)
	busy.Wait()
}
