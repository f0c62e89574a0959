package tcp

import (
	"math"
	"testing"
)

// near reports whether got is within tolerance, a part, of want.
func near(got, want, tolerance float64) bool { return math.Abs(got-want) <= tolerance*math.Abs(want) }

// goodputRate is the payload rate of a bottleneck, bytes per second.
func goodputRate(rate float64) float64 { return rate * 1448 / (1448 + 32 + 20 + wireOverhead) }

// draft-ietf-ccwg-bbr section 4.1.1.2: with the path full the sample is the
// bottleneck's rate, whatever the window.
func TestRateSampleBottleneck(t *testing.T) {
	hs := newPathHosts(t, 16384)
	for _, mbit := range []float64{1, 20, 500} {
		p := newPath(t, 1)
		p.rate, p.delay, p.buffer = mbit*1e6/8, 10*ms, 1<<20
		f := p.add(hs, &Config{SndBuf: 4 << 20, RcvBuf: 4 << 20}, 0)
		f.left.c.Info(p.now) // from here on
		p.run(4 * sec)
		i := f.left.c.Info(p.now)
		if want := goodputRate(p.rate); !near(i.DeliveryRate, want, 0.02) || i.RateAppLimited {
			t.Errorf("%v Mbit/s: sample of %.0f bytes/s, limited %v; want %.0f", mbit, i.DeliveryRate, i.RateAppLimited, want)
		}
		p.close()
	}
}

// rateWire is a connection with a round trip of 100 ms on which n segments of
// 1000 bytes are in flight.
func rateWire(t *testing.T, n int) *wire {
	w := dial(t, Config{NoDelay: true}, tsOK(false), mss(1000))
	w.measure()
	w.ts = false
	for i := range n {
		w.write(1000)
		if i < n-1 {
			w.now += ms
		}
	}
	w.out, w.wnds = nil, nil
	return w
}

// measure has rate samples taken as if from the start.
func (w *wire) measure() {
	w.c.Info(w.now)
	w.c.checkAppLimited()
}

func (w *wire) rateIs(bytes uint32, interval int64, limited bool) {
	w.t.Helper()
	rs := w.h.rate
	if d := rs.Interval - interval; rs.Delivered != bytes || d < -64 || d > 64 || rs.AppLimited != limited {
		w.t.Errorf("sample of %d bytes in %d ns, limited %v; want %d in %d, %v",
			rs.Delivered, rs.Interval, rs.AppLimited, bytes, interval, limited)
	}
}

// Section 4.1.1.2.3: acknowledgements that come in a bunch are measured by the
// time in which the segments were sent, and segments sent at once by the time
// in which the acknowledgements came.
func TestRateSampleSendAndAckRate(t *testing.T) {
	w := rateWire(t, 10) // sent over 9 ms
	w.now += 91 * ms
	w.feed("A", 1, 10001, 0)
	// All in flight when the first arrived: from its sending to now.
	w.rateIs(10000, 100*ms, true)

	w = dial(t, Config{NoDelay: true}, tsOK(false), mss(1000))
	w.measure()
	w.ts = false
	w.write(4000)
	w.now += 100 * ms
	w.feed("A", 1, 1001, 0)
	w.rateIs(1000, 100*ms, true) // the first flight: nothing was sent before
	w.write(1000)                // sent after the first 1000 had arrived
	w.now += 10 * ms
	w.feed("A", 1, 2001, 0)
	w.now += 90 * ms
	w.feed("A", 1, 5001, 0)
	// Sent 100 ms after the first four, acknowledged 100 ms after the first.
	w.rateIs(4000, 100*ms, true)
	if w.h.rate.PriorDelivered != 1000 {
		t.Errorf("prior %d", w.h.rate.PriorDelivered)
	}
}

// Section 4.1.2.3: the sample is that of the segment sent last, whether it is
// acknowledged by SACK or not, and an acknowledgement that brings nothing has
// none.
func TestRateSampleNewest(t *testing.T) {
	w := rateWire(t, 5)
	w.now += 46 * ms // the third was sent 48 ms ago
	w.feed("A", 1, 1, 0, w.sack(2001, 3001))
	w.rateIs(1000, 50*ms, true)
	if rs := w.h.rate; rs.RTT != 48*ms || rs.Flight != 3000 {
		t.Errorf("round trip %d, flight %d", rs.RTT, rs.Flight)
	}
	w.now += 10 * ms
	w.feed("A", 1, 2001, 0, w.sack(2001, 3001)) // older ones fill the hole
	w.rateIs(3000, 60*ms, true)
	if rs := w.h.rate; rs.Flight != 2000 {
		t.Errorf("flight %d", rs.Flight)
	}
	w.out = nil
}

// Section 4.1.2.3: an interval below the least round trip is no sample.
func TestRateSampleTooShort(t *testing.T) {
	w := rateWire(t, 1)
	w.now += 2 * ms // the handshake took 10
	w.c.rtt.least = 10 * ms
	w.h.rate = RateSample{}
	m := w.h.Arena.Meta(w.c.sndHead)
	w.h.newest.delivered(m, m.Seq+1000)
	w.c.rateSample(&w.h.rate, w.now)
	if w.h.rate.Interval != 0 || w.h.rate.Rate() != 0 || w.h.rate.Delivered != 0 && w.h.rate.Rate() != 0 {
		t.Errorf("%+v", w.h.rate)
	}
}

// Section 4.1.1.3 and 4.1.2.4: samples are the application's until all that
// was in flight when it ran dry has arrived.
func TestRateSampleAppLimited(t *testing.T) {
	w := dial(t, Config{NoDelay: true})
	w.measure()
	w.write(30000) // more than cwnd
	w.now += 100 * ms
	w.feed("A", 1, 10001, 0)
	if !w.h.rate.AppLimited {
		t.Error("the first flight is not limited")
	}
	w.now += 100 * ms
	w.feed("A", 1, 30001, 0)
	if w.h.rate.AppLimited {
		t.Error("limited, though cwnd held data back")
	}
	// cwnd is 20 or more, and nothing is left: later samples are limited.
	w.write(5000)
	w.now += 100 * ms
	w.feed("A", 1, 35001, 0)
	if !w.h.rate.AppLimited {
		t.Error("not limited, though it had run dry")
	}
	// cwnd is filled: one round of samples is marked yet, the next is not.
	w.write(60000)
	w.feed("A", 1, 35001, 0, wnd(65535))
	w.now += 100 * ms
	una := w.c.sndNxt - w.iss
	w.feed("A", 1, una, 0)
	w.now += 100 * ms
	una = w.c.sndNxt - w.iss
	w.feed("A", 1, una, 0)
	if w.h.rate.AppLimited {
		t.Error("limited, though cwnd holds data back again")
	}
	w.out = nil
}

// C.lost and P.lost: the bytes lost since the newest segment was sent.
func TestRateSampleLost(t *testing.T) {
	w := rateWire(t, 10)
	w.now += 91 * ms
	w.feed("A", 1, 1, 0, w.sack(5001, 10001))
	if got := w.h.rate.Lost; got < 5000-256 || got > 5000+256 {
		t.Errorf("%d bytes lost, want 5000", got)
	}
	w.now += 100 * ms
	w.feed("A", 1, 10001, 0) // retransmitted after they were lost
	if got := w.h.rate.Lost; got != 0 {
		t.Errorf("%d bytes lost since, want 0", got)
	}
	w.out = nil
}

// A loss is counted once (draft-ietf-ccwg-bbr section 4.1.2, C.lost): a timeout
// does not lose again what waits to be sent again.
func TestRateLostOnce(t *testing.T) {
	w := dial(t, Config{})
	w.measure()
	flight(w, 20)
	w.now += 10 * ms
	w.feed("A", 1, 1, 0, w.sack(15001, 20001)) // 15 lost at once
	lost := w.c.lost
	if w.c.lost == w.c.retrans || w.c.rare.rate.lost != lost {
		t.Fatalf("%d lost, %d counted, %d sent again", w.c.lost, w.c.rare.rate.lost, w.c.retrans)
	}
	again := w.c.retrans
	w.advance(300 * ms)
	if w.c.recovery != inLoss || w.c.rare.rate.lost != lost+again {
		t.Errorf("recovery %d; %d counted, want %d", w.c.recovery, w.c.rare.rate.lost, lost+again)
	}
	w.out = nil
}
