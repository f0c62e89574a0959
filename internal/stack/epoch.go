package stack

import "math"

// epoch measures the work that the stack gets done, and its cost.
type epoch struct {
	events  int
	began   int64 // 0: the next event begins it
	work    int64
	cpu     int64
	started bool  // work and cpu are those of its beginning
	before  int   // events that came before
	steady  int64 // when it may begin

	last    int64                  // the last event
	longest [epochStrays + 1]int64 // times from one event to the next, longest first
}

const (
	epochEvents = 48
	epochTrial  = 24 // in a trial, and at home until trials have shown something
	epochSettle = 4  // events after a change of mode that belong to neither
	// epochSteady is for how long, in ns, spinning is not measured after sleep. A
	// wait of gRPC took 119 us asleep, 111 in the first 3 ms of spinning, and 89
	// from 6 ms on: a virtual processor, or the host below it, takes so long to
	// become fast.
	epochSteady = int64(6_000_000)
	epochMin    = int64(500_000)
	epochLong   = int64(4_000_000) // a trial lasts as long at least
	epochMax    = int64(250_000_000)

	// The longest of epochStray events, at most epochStrays, count as strayTimes
	// the mean of the others and strayWakes wake-ups. An interrupt, a garbage
	// collection or a packet that the reactor had to find takes as long as ten
	// requests, and says nothing about the mode.
	epochStray  = 12
	epochStrays = epochEvents / epochStray
	strayTimes  = 3
	strayWakes  = 2
)

// event counts a wait that ended. It reports whether end must begin or end the
// epoch. A short epoch has as many events as a trial.
func (e *epoch) event(now int64, trial, short bool) bool {
	e.events++
	if !e.started {
		return e.events >= epochSettle && now >= e.steady
	}
	e.space(now - e.last)
	e.last = now
	if trial {
		return e.events >= epochTrial && now-e.began >= epochLong
	}
	n := epochEvents
	if short {
		n = epochTrial
	}
	return e.events >= n && now-e.began >= epochMin
}

// space notes the time from one event to the next.
func (e *epoch) space(d int64) {
	i := len(e.longest) - 1
	if d <= e.longest[i] {
		return
	}
	for ; i > 0 && e.longest[i-1] < d; i-- {
		e.longest[i] = e.longest[i-1]
	}
	e.longest[i] = d
}

// span is the time, in ns, that the epoch has taken, without the excess of stray
// events. more is how much longer than the others an event may take because of
// waiting.
func (e *epoch) span(now, more int64) int64 {
	t := now - e.began
	n := min(e.events/epochStray, epochStrays)
	for _, d := range e.longest[:n] {
		t -= d
	}
	most := max(e.longest[n], strayTimes*t/int64(max(e.events-n, 1))+more)
	for _, d := range e.longest[:n] {
		t += min(d, most)
	}
	return t
}

// void discards the measurements: the epoch begins again.
func (e *epoch) void() { *e = epoch{steady: e.steady} }

// rise notes that goroutines spin from now on, and did not before.
func (e *epoch) rise(now int64) { e.steady = now + epochSteady }

// cost is the cost of an epoch.
type cost struct {
	time, cpu  float64 // logarithms of the time and of the processor time for each byte
	each, used float64 // both for each event, ns
	events     int     // in the mode, the unmeasured ones included
}

// all is the sum of both, with processor time weighted by its price.
func (c cost) all() float64 { return c.time + latencyPrice*c.cpu }

// end begins the epoch if it has not begun, else ends it and returns its cost. more
// is as in span.
func (e *epoch) end(now, work, cpu, more int64) (c cost, ok bool) {
	if !e.started {
		*e = epoch{began: now, last: now, work: work, cpu: cpu, started: true, before: e.events, steady: e.steady}
		return c, false
	}
	whole, t, w, used, n, before := now-e.began, e.span(now, more), work-e.work, cpu-e.cpu, e.events, e.before
	e.void()
	if whole > epochMax || w <= 0 || used <= 0 {
		return c, false // too sparse to say anything
	}
	return cost{
		time: math.Log(float64(t) / float64(w)), cpu: math.Log(float64(used) / float64(w)),
		each: float64(t) / float64(n), used: float64(used) / float64(n), events: n + before,
	}, true
}
