package ring

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/onload-go/onload/internal/testlong"
)

// wheelModel is the wheel as a plain table: the armed timers, and their times.
type wheelModel struct {
	t      testing.TB
	w      *Wheel
	now    int64
	timers []Timer
	at     map[*Timer]int64
	// set during the running Advance to a time that is past: due at the next
	late    map[*Timer]bool
	running bool
	behave  *rand.Rand // what callbacks do; nil: nothing
	fired   int
}

func newWheelModel(t testing.TB, now int64, n int) *wheelModel {
	return &wheelModel{t: t, w: NewWheel(now), now: now, timers: make([]Timer, n),
		at: map[*Timer]int64{}, late: map[*Timer]bool{}}
}

// due is the tick boundary at which a timer for at is to fire.
func due(at int64) int64 {
	if at > math.MaxInt64-TickNanos {
		return math.MaxInt64
	}
	return (at + TickNanos - 1) &^ (TickNanos - 1)
}

func (m *wheelModel) set(t *Timer, at int64) {
	m.w.Set(t, at)
	m.at[t] = at
	delete(m.late, t)
	if m.running && due(at) <= m.now {
		m.late[t] = true
	}
}

func (m *wheelModel) stop(t *Timer) {
	m.w.Stop(t)
	delete(m.at, t)
	delete(m.late, t)
}

func (m *wheelModel) advance(now int64) {
	m.now = now
	last := int64(math.MinInt64)
	clear(m.late)
	before := make(map[*Timer]bool, len(m.at))
	for t := range m.at {
		before[t] = true
	}
	m.running = true
	m.w.Advance(now, func(t *Timer) {
		at, armed := m.at[t]
		switch {
		case !armed:
			m.t.Fatalf("fired a stopped timer")
		case at > now:
			m.t.Fatalf("fired %d ns early", at-now)
		case t.Armed():
			m.t.Fatal("armed while it fires")
		case m.late[t]:
			m.t.Fatal("fired in the Advance that set it to the past")
		}
		// Those due before the Advance began come first, in any order.
		if before[t] && due(at) < last && due(at) > m.w.cur<<tickBits {
			m.t.Fatalf("fired out of order: %d after %d", due(at), last)
		}
		last = max(last, due(at))
		delete(m.at, t)
		m.fired++
		if m.behave == nil {
			return
		}
		other := &m.timers[m.behave.IntN(len(m.timers))]
		switch m.behave.IntN(6) {
		case 0:
			m.set(t, now+m.behave.Int64N(1<<30))
		case 1:
			m.stop(other)
		case 2:
			m.set(other, now+m.behave.Int64N(1<<34)-1<<20)
		case 3:
			m.set(t, now-m.behave.Int64N(1<<22))
		}
	})
	m.running = false
	for t, at := range m.at {
		if due(at) <= now && !m.late[t] {
			m.t.Fatalf("timer for %d did not fire at %d", at, now)
		}
	}
	m.check()
}

// check compares what the wheel says of its timers with the table.
func (m *wheelModel) check() {
	first := int64(math.MaxInt64)
	for i := range m.timers {
		t := &m.timers[i]
		at, armed := m.at[t]
		if armed != t.Armed() {
			m.t.Fatalf("timer %d: Armed is %v", i, t.Armed())
		}
		if armed && at != t.At() {
			m.t.Fatalf("timer %d: At is %d, not %d", i, t.At(), at)
		}
		if armed {
			first = min(first, due(at))
		}
	}
	next := m.w.Next()
	if len(m.at) == 0 {
		if next != math.MaxInt64 {
			m.t.Fatalf("Next of an empty wheel is %d", next)
		}
		return
	}
	if next > max(first, m.w.cur<<tickBits) {
		m.t.Fatalf("Next %d is after the first timer %d", next, first)
	}
	if first > m.w.cur<<tickBits && next <= m.w.cur<<tickBits {
		m.t.Fatalf("Next %d would wake at once, first is %d, now %d", next, first, m.now)
	}
}

// run interprets bytes as operations.
func (m *wheelModel) run(ops []byte) {
	for len(ops) >= 6 {
		op, i := ops[0], int(ops[1])%len(m.timers)
		v := int64(binary.LittleEndian.Uint32(ops[2:]))
		ops = ops[6:]
		// Exponents from single nanoseconds to weeks.
		d := v >> (op >> 4) << (op >> 3 & 31)
		switch op & 7 {
		case 0, 1, 2, 3:
			m.set(&m.timers[i], m.now+d-TickNanos)
		case 4:
			m.stop(&m.timers[i])
		case 5:
			m.advance(m.now + d)
		case 6:
			m.advance(m.now + v>>8)
		case 7:
			if next := m.w.Next(); next != math.MaxInt64 {
				m.advance(max(next, m.now))
			}
		}
		m.check()
	}
	// Driven by Next alone everything fires, each within its own tick.
	for n := 0; len(m.at) > 0; n++ {
		next := m.w.Next()
		m.advance(max(next, m.now))
		if n > 1e6 {
			m.t.Fatal("the wheel does not run empty")
		}
		if n > 1000 {
			m.behave = nil
		}
		if len(m.at) > 0 && m.now > math.MaxInt64/2 {
			return
		}
	}
}

func FuzzWheel(f *testing.F) {
	for seed := uint64(0); seed < 20; seed++ {
		r := rand.New(rand.NewPCG(seed, 1))
		b := make([]byte, 600)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		f.Add(b, seed)
	}
	f.Fuzz(func(t *testing.T, ops []byte, seed uint64) {
		if len(ops) > 6000 {
			return
		}
		m := newWheelModel(t, int64(seed>>24), 24)
		if seed&1 == 0 {
			m.behave = rand.New(rand.NewPCG(seed, 2))
		}
		m.run(ops)
	})
}

func TestWheelRandom(t *testing.T) {
	n := 3000
	if testing.Short() {
		n = 300
	} else if testlong.Enabled() {
		n = 100_000
	}
	for seed := range uint64(n) {
		r := rand.New(rand.NewPCG(seed, 3))
		m := newWheelModel(t, r.Int64N(1<<50), 1+r.IntN(64))
		if seed%3 != 0 {
			m.behave = r
		}
		ops := make([]byte, 6*200)
		for i := range ops {
			ops[i] = byte(r.Uint32())
		}
		m.run(ops)
	}
}

// Advanced every tick, a timer fires within one tick of its time, whatever
// its distance.
func TestWheelLateness(t *testing.T) {
	for _, d := range []int64{0, 1, TickNanos - 1, TickNanos, TickNanos + 1, 63 * TickNanos, 64 * TickNanos,
		65*TickNanos + 7, 4095 * TickNanos, 4096*TickNanos + 1, 2e9, 60e9} {
		for _, start := range []int64{0, 12345, 63*TickNanos + 5, 1<<44 - 3} {
			w, at := NewWheel(start), start+d
			var tm Timer
			w.Set(&tm, at)
			fired := int64(-1)
			for now := start; fired < 0; now += TickNanos / 2 {
				w.Advance(now, func(*Timer) { fired = now })
				if now > at+3*TickNanos {
					t.Fatalf("distance %d: not fired", d)
				}
			}
			if fired < at || fired-at > TickNanos+TickNanos/2 {
				t.Errorf("distance %d from %d: fired %d ns after its time", d, start, fired-at)
			}
		}
	}
}

// Two hours, and more than the wheel reaches, with few wake-ups.
func TestWheelFar(t *testing.T) {
	for _, d := range []int64{7200e9, 40 * 86400e9, 400 * 86400e9} {
		w := NewWheel(1 << 40)
		at := int64(1<<40) + d
		var tm Timer
		w.Set(&tm, at)
		fired, wakes := int64(0), 0
		for fired == 0 {
			wakes++
			now := w.Next()
			w.Advance(now, func(*Timer) { fired = now })
		}
		if fired < at || fired-at > TickNanos {
			t.Errorf("%d: off by %d", d, fired-at)
		}
		if limit := wheelLevels + 1 + int(d>>(topShift+tickBits)/60); wakes > limit {
			t.Errorf("%d s: %d wake-ups, at most %d", d/1e9, wakes, limit)
		}
	}
	w := NewWheel(0)
	var tm Timer
	w.Set(&tm, math.MaxInt64)
	if n := w.Next(); n <= 0 || n == math.MaxInt64 {
		t.Errorf("Next is %d", n)
	}
	w.Stop(&tm)
	w.Stop(&tm)
	if w.Next() != math.MaxInt64 {
		t.Error("Stop left something")
	}
}

func TestWheelAllocs(t *testing.T) {
	w := NewWheel(0)
	ts := make([]Timer, 100)
	now := int64(0)
	fire := func(t *Timer) { w.Set(t, now+50e6) }
	if n := testing.AllocsPerRun(1000, func() {
		for i := range ts {
			w.Set(&ts[i], now+int64(i)*3e6)
		}
		for i := range ts[:50] {
			w.Stop(&ts[i])
		}
		now += 5e6
		w.Advance(now, fire)
		w.Next()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkWheelSetStop(b *testing.B) {
	w := NewWheel(0)
	ts := make([]Timer, 4096)
	for i := range ts {
		w.Set(&ts[i], int64(i)*1e6)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		t := &ts[i&4095]
		w.Stop(t)
		w.Set(t, int64(i&0xffff)*1e6)
	}
}

// One re-armed retransmission timer: the common case on the data path.
func BenchmarkWheelRearm(b *testing.B) {
	w := NewWheel(0)
	var t Timer
	now := int64(0)
	for b.Loop() {
		now += 10_000
		w.Set(&t, now+200e6)
	}
}

func BenchmarkWheelAdvance(b *testing.B) {
	for _, n := range []int{1, 100, 100_000} {
		b.Run(map[int]string{1: "1", 100: "100", 100_000: "100k"}[n], func(b *testing.B) {
			w := NewWheel(0)
			ts := make([]Timer, n)
			for i := range ts {
				w.Set(&ts[i], int64(i)*1e5)
			}
			now, fired := int64(0), 0
			fire := func(t *Timer) { fired++; w.Set(t, now+10e9) }
			b.ReportAllocs()
			for b.Loop() {
				now += TickNanos
				w.Advance(now, fire)
				_ = w.Next()
			}
			b.ReportMetric(float64(fired)/float64(b.N), "fired/op")
		})
	}
}
