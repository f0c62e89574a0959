package tcp

import (
	"testing"
	"time"
)

const msec = int64(time.Millisecond)

func TestRTOInitial(t *testing.T) {
	var r RTT
	r.Init()
	if r.RTO() != int64(time.Second) || r.Valid() || r.Min() != 0 || r.SRTT() != 0 {
		t.Errorf("before any sample: RTO %v, valid %v, min %v", time.Duration(r.RTO()), r.Valid(), r.Min())
	}
	if got := r.Backoff(3); got != int64(8*time.Second) {
		t.Errorf("third backoff %v, want 8 s", time.Duration(got))
	}
	if got := r.Backoff(200); got != int64(120*time.Second) {
		t.Errorf("backoff is bounded by %v, want 120 s", time.Duration(got))
	}
	r.SYNTimedOut() // RFC 6298 section 5.7
	if r.RTO() != int64(3*time.Second) {
		t.Errorf("after a lost SYN: RTO %v, want 3 s", time.Duration(r.RTO()))
	}
	r.Sample(10*msec, 0, 1, 1)
	before := r.RTO()
	r.SYNTimedOut()
	if r.RTO() != before {
		t.Error("a lost SYN changes a measured RTO")
	}
}

// RFC 6298 section 2.2: the first sample.
func TestRTOFirstSample(t *testing.T) {
	for _, c := range []struct{ rtt, rto int64 }{
		{10 * msec, 210 * msec}, // the floor
		{1 * msec / 1000, 200001 * msec / 1000},
		{500 * msec, 1500 * msec}, // R + 4*R/2
		{0, 200*msec + 1},
		{-5, 200*msec + 1},
		{100_000 * msec, 120_000 * msec},
	} {
		var r RTT
		r.Init()
		r.Sample(c.rtt, 0, 1, 100)
		if r.RTO() != c.rto {
			t.Errorf("RTT %v: RTO %v, want %v", time.Duration(c.rtt), time.Duration(r.RTO()), time.Duration(c.rto))
		}
	}
}

// A steady path brings RTO to SRTT plus the floor; a spike raises it at once.
func TestRTOConverges(t *testing.T) {
	var r RTT
	r.Init()
	seq := uint32(0)
	sample := func(rtt int64) {
		seq += 10
		r.Sample(rtt, int64(seq)*msec, seq, seq+10)
	}
	sample(400 * msec)
	for range 200 {
		sample(100 * msec)
	}
	if got := r.RTO(); got < 299*msec || got > 301*msec {
		t.Errorf("steady 100 ms: RTO %v, want 300 ms", time.Duration(got))
	}
	if got := r.SRTT(); got < 99*msec || got > 101*msec {
		t.Errorf("steady 100 ms: SRTT %v", time.Duration(got))
	}
	sample(500 * msec)
	// SRTT 150 ms, mean deviation 100 ms.
	if got := r.RTO(); got < 540*msec || got > 560*msec {
		t.Errorf("after a spike: RTO %v, want 550 ms", time.Duration(got))
	}
	// A shorter round trip must not make it longer.
	before := r.RTO()
	sample(10 * msec)
	if r.RTO() > before {
		t.Errorf("a short round trip raises RTO from %v to %v", time.Duration(before), time.Duration(r.RTO()))
	}
}

// RFC 7323 appendix G: many samples in one round trip must not forget its
// deviation.
func TestRTOKeepsPeakWithinRound(t *testing.T) {
	var r RTT
	r.Init()
	r.Sample(100*msec, 0, 1, 1000)
	for una := uint32(2); una < 1000; una++ {
		r.Sample(100*msec, 0, una, 2000)
	}
	peak := r.RTO()
	r.Sample(600*msec, 0, 1000, 2000)
	spike := r.RTO()
	if spike <= peak {
		t.Fatalf("RTO %v after a spike, %v before", time.Duration(spike), time.Duration(peak))
	}
	r.Sample(100*msec, 0, 1001, 3000) // a new round
	top := r.rttv
	for una := uint32(1002); una < 1900; una++ {
		r.Sample(100*msec, 0, una, 3000)
	}
	if r.rttv < top {
		t.Errorf("variance fell from %v to %v within a round", time.Duration(top), time.Duration(r.rttv))
	}
	r.Sample(100*msec, 0, 3001, 4000)
	if r.rttv >= top {
		t.Error("variance does not decay with the round")
	}
}

func TestMinRTTExpires(t *testing.T) {
	var r RTT
	r.Init()
	r.Sample(5*msec, 0, 1, 10)
	r.Sample(9*msec, int64(time.Minute), 2, 20)
	if r.Min() != 5*msec {
		t.Errorf("min %v, want 5 ms", time.Duration(r.Min()))
	}
	r.Sample(9*msec, int64(6*time.Minute), 3, 30) // the route is longer now
	if r.Min() != 9*msec {
		t.Errorf("min %v, want 9 ms", time.Duration(r.Min()))
	}
}

func BenchmarkRTT(b *testing.B) {
	var r RTT
	r.Init()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		r.Sample(int64(i%1000)*1000, int64(i), uint32(i), uint32(i+100))
	}
}
