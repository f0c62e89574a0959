package tcp

import (
	"math"
	"testing"
	"time"
	"unsafe"
)

const segSize = 1000

// ccModel drives a Congestion as a sender with one loss-free or lossy path
// would: a round trip at a time.
type ccModel struct {
	cc  Congestion
	now int64
	rtt int64
	nxt uint32
	una uint32
}

func newModel(name string, rtt time.Duration) *ccModel {
	m := &ccModel{rtt: int64(rtt), now: 1}
	m.cc.Init(name, segSize)
	return m
}

// round sends a window and has it acknowledged in steps of per segments.
func (m *ccModel) round(per uint32, limited bool) {
	w := m.cc.Cwnd() / segSize
	start := m.now
	m.nxt = m.una + w*segSize
	for i := uint32(0); i < w; i += per {
		n := min(per, w-i)
		m.now = start + m.rtt*int64(i+n)/int64(w)
		m.ack(n*segSize, limited)
	}
	m.now = start + m.rtt
}

func (m *ccModel) ack(bytes uint32, limited bool) {
	m.una += bytes
	m.nxt += bytes
	m.cc.OnAck(&AckSample{Now: m.now, RTT: m.rtt, MinRTT: m.rtt, SRTT: m.rtt,
		Acked: bytes, Una: m.una, Nxt: m.nxt, Limited: limited})
}

// eachAlgorithm runs f for those that grow a window.
func eachAlgorithm(t *testing.T, f func(t *testing.T, name string)) {
	for _, name := range CongestionNames() {
		if name == "bbr" {
			continue
		}
		t.Run(name, func(t *testing.T) { f(t, name) })
	}
}

func TestCongestionNames(t *testing.T) {
	var c Congestion
	c.Init("", 1460)
	if c.Name() != "cubic" {
		t.Errorf("default is %s", c.Name())
	}
	if !ValidCongestion("newreno") || !ValidCongestion("") || ValidCongestion("bbr9") {
		t.Error("ValidCongestion")
	}
	if c.Set("bbr9") || c.Name() != "cubic" {
		t.Error("an unknown name was taken")
	}
	if !c.Set("newreno") || c.Name() != "newreno" {
		t.Error("a known name was refused")
	}
	if n := unsafe.Sizeof(c); n > 176 {
		t.Errorf("Congestion is %d bytes", n)
	}
}

// RFC 6928 section 2.
func TestInitialWindow(t *testing.T) {
	for _, c := range []struct {
		mss  int
		want uint32
	}{{1460, 14600}, {536, 5360}, {1095, 10950}, {2190, 14600}, {8960, 17920}, {65000, 130000}} {
		var cc Congestion
		cc.Init("", 500)
		cc.SetMSS(c.mss)
		if cc.Cwnd() != c.want {
			t.Errorf("MSS %d: initial window %d, want %d", c.mss, cc.Cwnd(), c.want)
		}
		cc.OnSYNLost()
		cc.SetMSS(c.mss - 12)
		if cc.Cwnd() != uint32(c.mss)-12 && cc.Cwnd() != uint32(c.mss) {
			t.Errorf("MSS %d: window %d after a lost SYN, want one segment", c.mss, cc.Cwnd())
		}
	}
}

// RFC 5681 section 3.1: the window doubles each round trip, however the
// receiver groups its acknowledgements (attack 17: splitting gains nothing).
func TestSlowStart(t *testing.T) {
	eachAlgorithm(t, func(t *testing.T, name string) {
		for _, per := range []uint32{1, 2, 10, 100} {
			m := newModel(name, 50*time.Millisecond)
			for range 5 {
				m.round(per, true)
			}
			if got := m.cc.Cwnd(); got != 320*segSize {
				t.Errorf("%d segments an ACK: %d bytes after 5 rounds, want %d", per, got, 320*segSize)
			}
		}
		m := newModel(name, 50*time.Millisecond)
		for range 10 * segSize {
			m.ack(1, true)
		}
		if got := m.cc.Cwnd(); got != 20*segSize {
			t.Errorf("split ACKs: %d bytes, want %d", got, 20*segSize)
		}
	})
}

// A window that was not needed proves nothing.
func TestNoGrowthWhenNotLimited(t *testing.T) {
	eachAlgorithm(t, func(t *testing.T, name string) {
		m := newModel(name, 50*time.Millisecond)
		m.round(1, false)
		if m.cc.Cwnd() != 10*segSize {
			t.Errorf("slow start: %d", m.cc.Cwnd())
		}
		m.cc.SetCwnd(200 * segSize)
		m.cc.EnterRecovery()
		m.cc.ExitRecovery()
		m.round(1, true)
		was := m.cc.Cwnd()
		for range 1000 {
			m.round(1, false)
		}
		if m.cc.Cwnd() != was {
			t.Errorf("congestion avoidance: %d, was %d", m.cc.Cwnd(), was)
		}
		// And the idle time must not count when it is needed again.
		m.round(1, true)
		if got := m.cc.Cwnd(); got > was+3*segSize {
			t.Errorf("first limited round after a long time: from %d to %d", was, got)
		}
	})
}

// RFC 5681 section 3.1: one segment per round trip, a half on loss.
func TestNewRenoAvoidance(t *testing.T) {
	m := newModel("newreno", 50*time.Millisecond)
	m.cc.SetCwnd(100 * segSize)
	m.cc.EnterRecovery()
	if m.cc.Ssthresh() != 50*segSize || m.cc.Cwnd() != 100*segSize {
		t.Fatalf("loss: ssthresh %d, cwnd %d", m.cc.Ssthresh(), m.cc.Cwnd())
	}
	m.cc.ExitRecovery()
	for i := range uint32(20) {
		if want := (50 + i) * segSize; m.cc.Cwnd() != want {
			t.Fatalf("round %d: cwnd %d, want %d", i, m.cc.Cwnd(), want)
		}
		// A little more than a window, since it grows under way.
		for acked := uint32(0); acked < (50+i)*segSize; acked += segSize {
			m.ack(segSize, true)
		}
	}
}

// RFC 5681 section 3.1, equation 4 with its floor, and RFC 6298 section 5.
func TestTimeout(t *testing.T) {
	eachAlgorithm(t, func(t *testing.T, name string) {
		m := newModel(name, 50*time.Millisecond)
		m.cc.SetCwnd(100 * segSize)
		m.cc.OnRTO(true)
		cut := m.cc.Ssthresh()
		if m.cc.Cwnd() != segSize || cut < 50*segSize || cut > 70*segSize {
			t.Fatalf("cwnd %d, ssthresh %d", m.cc.Cwnd(), cut)
		}
		for range 5 {
			m.cc.OnRTO(false) // the same loss
		}
		if m.cc.Ssthresh() != cut {
			t.Errorf("ssthresh fell to %d with repeated timeouts", m.cc.Ssthresh())
		}
		for range 20 {
			m.cc.OnRTO(true)
		}
		if m.cc.Ssthresh() != 2*segSize {
			t.Errorf("ssthresh %d, want the floor of 2 segments", m.cc.Ssthresh())
		}
	})
}

// RFC 9438 section 4.9, RFC 4015.
func TestUndo(t *testing.T) {
	eachAlgorithm(t, func(t *testing.T, name string) {
		for _, loss := range []func(m *ccModel){
			func(m *ccModel) { m.cc.EnterRecovery(); m.cc.SetCwnd(m.cc.Ssthresh()) },
			func(m *ccModel) { m.cc.OnRTO(true); m.cc.OnRTO(false) },
			func(m *ccModel) { m.cc.EnterRecovery(); m.cc.OnRTO(false) },
		} {
			m := newModel(name, 50*time.Millisecond)
			m.cc.SetCwnd(200 * segSize)
			m.cc.EnterRecovery()
			m.cc.ExitRecovery()
			for range 20 {
				m.round(2, true)
			}
			cwnd, ssthresh, state := m.cc.Cwnd(), m.cc.Ssthresh(), m.cc.remember().cubic
			loss(m)
			m.cc.Undo()
			if m.cc.Cwnd() != cwnd || m.cc.Ssthresh() != ssthresh || m.cc.remember().cubic != state {
				t.Errorf("cwnd %d ssthresh %d %+v\nwere %d %d %+v", m.cc.Cwnd(), m.cc.Ssthresh(), m.cc.remember().cubic, cwnd, ssthresh, state)
			}
			m.cc.SetCwnd(5 * segSize)
			m.cc.Undo()
			if m.cc.Cwnd() != 5*segSize {
				t.Error("one reduction was taken back twice")
			}
		}
		m := newModel(name, 50*time.Millisecond)
		m.cc.SetCwnd(100 * segSize)
		m.cc.OnECN(m.now)
		cut := m.cc.Ssthresh()
		m.cc.Undo()
		if m.cc.Ssthresh() != cut {
			t.Error("the answer to a congestion mark was taken back")
		}
	})
}

// RFC 2861 section 3.
func TestIdleRestart(t *testing.T) {
	eachAlgorithm(t, func(t *testing.T, name string) {
		const rto = 200 * 1e6
		for _, c := range []struct {
			idle int64
			want uint32
		}{{rto, 160}, {rto + 1, 80}, {2*rto + 1, 40}, {3*rto + 1, 20}, {100 * rto, 10}, {math.MaxInt64 / 2, 10}} {
			m := newModel(name, 50*time.Millisecond)
			for range 4 {
				m.round(1, true)
			}
			m.cc.OnIdle(c.idle, rto)
			if m.cc.Cwnd() != c.want*segSize {
				t.Errorf("idle for %v: %d, want %d segments", time.Duration(c.idle), m.cc.Cwnd(), c.want)
			}
		}
		m := newModel(name, 50*time.Millisecond)
		m.cc.SetCwnd(3 * segSize)
		m.cc.OnIdle(100*rto, rto)
		if m.cc.Cwnd() != 3*segSize {
			t.Errorf("idling raised the window to %d", m.cc.Cwnd())
		}
	})
}

func TestCwndBounds(t *testing.T) {
	eachAlgorithm(t, func(t *testing.T, name string) {
		m := newModel(name, time.Millisecond)
		for range 100 {
			m.ack(math.MaxUint32, true)
		}
		if m.cc.Cwnd() > maxCwnd {
			t.Errorf("cwnd %d", m.cc.Cwnd())
		}
		m.cc.SetCwnd(0)
		if m.cc.Cwnd() != segSize {
			t.Errorf("cwnd %d, want one segment", m.cc.Cwnd())
		}
		m.cc.EnterRecovery()
		m.cc.ExitRecovery()
		for range 100 {
			m.now += m.rtt
			m.ack(math.MaxUint32, true)
			if w := m.cc.Cwnd(); w > maxCwnd || w < segSize {
				t.Fatalf("cwnd %d", w)
			}
		}
	})
}

func TestCongestionAllocs(t *testing.T) {
	eachAlgorithm(t, func(t *testing.T, name string) {
		m := newModel(name, 50*time.Millisecond)
		s := AckSample{RTT: msec, SRTT: msec, Acked: 2 * segSize, Limited: true}
		if n := testing.AllocsPerRun(1000, func() {
			m.now += 1000
			s.Now = m.now
			m.cc.OnAck(&s)
			if m.cc.Cwnd() > 1000*segSize {
				m.cc.EnterRecovery()
				m.cc.ExitRecovery()
			}
		}); n != 0 {
			t.Errorf("%v allocations per acknowledgement", n)
		}
	})
}

func BenchmarkOnAck(b *testing.B) {
	for _, name := range CongestionNames() {
		b.Run(name, func(b *testing.B) {
			m := newModel(name, 50*time.Millisecond)
			s := AckSample{RTT: msec, SRTT: msec, Acked: 2 * segSize, Limited: true}
			b.ReportAllocs()
			for b.Loop() {
				m.now += 1000
				s.Now = m.now
				m.cc.OnAck(&s)
				if m.cc.Cwnd() > 1000*segSize {
					m.cc.EnterRecovery()
					m.cc.ExitRecovery()
				}
			}
		})
	}
}

// RFC 7661 section 4.3 and Linux's tcp_is_cwnd_limited: in slow start a window
// grows of which more than half was in flight, even where cwnd held nothing
// back; less proves nothing.
func TestRFC7661SlowStartHalfUsed(t *testing.T) {
	for n, want := range map[int]int{5: 10, 6: 12, 9: 18, 10: 20} {
		w := dial(t, Config{NoTimestamps: true}, mss(1000))
		w.write(n * 1000)
		for i := 2; i <= n; i += 2 {
			w.feed("A", 1, uint32(1+i*1000), 0)
		}
		if got := w.c.cwnd() / 1000; got != want {
			t.Errorf("%d segments: cwnd %d, want %d", n, got, want)
		}
		w.out = nil
	}
}

// Config.KeepIdleCwnd, Linux's tcp_slow_start_after_idle=0.
func TestKeepIdleCwnd(t *testing.T) {
	for _, keep := range []bool{false, true} {
		w := dial(t, Config{NoTimestamps: true, KeepIdleCwnd: keep}, mss(1000))
		w.write(10000)
		w.feed("A", 1, 10001, 0)
		w.now += 10 * sec
		w.write(15000)
		if got := w.c.cwnd() == 20000; got != keep {
			t.Errorf("keep %v: cwnd %d after 10 s", keep, w.c.cwnd())
		}
		w.out = nil
	}
}
