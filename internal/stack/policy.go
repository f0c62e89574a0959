package stack

import (
	"math"
	"math/bits"
)

// policy decides for the profile balanced how long a goroutine that waits for
// packets polls before it sleeps. It is pure: times are arguments, in ns.
//
// A spin of b ns costs the processor min(gap, b) ns, where gap is the time to the
// next packet; a sleep costs a price. The policy learns the distribution of gaps
// and takes the b with the least expected cost (gaps.best). There are two prices:
//
//   - thrifty: the processor time of falling asleep and waking up. Whatever
//     the load, this spends about the least processor time.
//   - eager: in addition the latency of waking up, as far as latency is worth
//     processor time. That is so only where an earlier answer brings the next
//     request earlier (a closed loop), and where the processor has nothing
//     else to do.
//
// The policy does not model which of the two is better, it tries: time is cut
// into epochs, now and then one in the other mode comes between, and the work
// done and its cost are compared (trials). No trial is made where the most that
// eager may gain is not worth its price (hopeless), and those that lose may take
// a small part of the processor time only (trials.credit).
type policy struct {
	wakeCPU     int64 // processor time of falling asleep and waking up
	wakeLatency int64 // time from a packet's arrival to the goroutine's running

	gaps   gaps
	trials trials
	epoch  epoch

	eager bool // the mode of this epoch

	scarceUntil int64  // a quota limits processor time: thrifty
	throttled   uint64 // periods in which the quota did not suffice

	sharedUntil int64 // another thread wants the processor: sleep at once
	sharedFor   int64 // length of that time; it doubles when it follows itself
	learned     int   // gaps since budgets were computed
	fresh       bool  // they never were
	budgets     [2]int64
}

const (
	// latencyPrice is the price of a relative saving of time, in relative processor
	// time: 1 % more requests a second may cost 1/latencyPrice % more processor
	// time each.
	latencyPrice = 0.15

	// budgetPrice is latencyPrice for the eager budget. It is lower, since the gaps
	// that are seen asleep are longer than those to come: if the other end sleeps
	// too, it wakes sooner when we answer sooner. Trials have the last word.
	budgetPrice = 0.1

	// budgetEvery is how many gaps pass before the budgets are computed again,
	// budgetFirst before they are computed at all.
	budgetEvery = 16
	budgetFirst = 4

	// hopeWakes is how many wake-ups earlier an event may come if the goroutine
	// spins: its own wake-up, and as much again, since the measured one is not all
	// that a sleep delays.
	hopeWakes = 2

	// scarceFor is how long, in ns, a quota counts as tight.
	scarceFor = int64(1_000_000_000)

	sharedMin = int64(10_000_000)
	sharedMax = int64(640_000_000)
)

func newPolicy(wakeCPU, wakeLatency int64, seed uint64) *policy {
	p := &policy{wakeCPU: wakeCPU, wakeLatency: wakeLatency, eager: true, fresh: true}
	p.trials.init(seed)
	p.budgets = [2]int64{wakeCPU, p.eagerPrice()}
	return p
}

func (p *policy) eagerPrice() int64 {
	return p.wakeCPU + int64(float64(p.wakeLatency)/budgetPrice)
}

// budget returns how long a wait that begins at now may spin.
func (p *policy) budget(now int64) int64 {
	switch {
	case now < p.sharedUntil:
		return 0
	case p.spins(now):
		return p.budgets[1]
	}
	return p.budgets[0]
}

// spins reports whether a wait that begins at now may spin for the sake of
// latency.
func (p *policy) spins(now int64) bool {
	return p.eager && now >= p.scarceUntil && now >= p.sharedUntil
}

// arrived notes that a wait ended at now with a packet, gap ns after it began.
// slept reports whether the goroutine slept at the end; the gap then includes the
// wake-up. arrived reports whether an epoch is to be ended.
func (p *policy) arrived(now, gap int64, slept bool) (ends bool) {
	if slept {
		gap = max(gap-p.wakeLatency, 0)
	}
	p.gaps.add(gap)
	if p.learned++; p.learned >= budgetEvery || p.fresh && p.learned >= budgetFirst {
		p.learned, p.fresh = 0, false
		p.budgets = [2]int64{p.gaps.best(p.wakeCPU), p.gaps.best(p.eagerPrice())}
	}
	return p.epoch.event(now, p.trials.trying, p.trials.home && p.trials.n < trialsFew)
}

// shared notes that another thread wanted the processor while the caller spun.
func (p *policy) shared(now int64) {
	if now-p.sharedUntil > 2*p.sharedFor {
		p.sharedFor = sharedMin
	} else {
		p.sharedFor = min(2*p.sharedFor, sharedMax)
	}
	p.sharedUntil = now + p.sharedFor
	p.epoch.void()
}

// limited notes a cgroup's quota, in processors (0: none), and the number of
// periods in which it did not suffice. Under a quota, time spent spinning is
// missing later. So a goroutine spins for the sake of latency only if it may have a
// processor for itself and nothing was throttled of late.
func (p *policy) limited(now int64, quota float64, throttled uint64) {
	if quota > 0 && (quota < 1 || throttled > p.throttled) {
		p.scarceUntil = now + scarceFor
	}
	p.throttled = throttled
}

// endEpoch ends the epoch. work is all that the stack has done, in bytes, cpu the
// processor time of the process. The next epoch may be in the other mode.
func (p *policy) endEpoch(now, work, cpu int64) {
	c, ok := p.epoch.end(now, work, cpu, strayWakes*p.wakeLatency)
	if now < p.scarceUntil || now < p.sharedUntil {
		p.trials.skip()
		return
	}
	if ok && !p.trials.trying {
		if lost, hopeless := p.hopeless(c); hopeless {
			p.trials.giveUp(c, lost)
			p.eager = false
			return
		}
	}
	if p.budgets[0] == p.budgets[1] {
		// There is nothing to choose.
		p.trials.skip()
		return
	}
	if ok {
		p.eager = p.trials.next(c)
	}
}

// hopeless reports whether spinning for the sake of latency cannot pay, judged by
// the cost of an epoch at home: an event comes hopeWakes wake-ups earlier at most,
// and the gaps show what the spins cost. lost is the processor time, in ns, that
// each event of this epoch took in vain.
func (p *policy) hopeless(c cost) (lost float64, hopeless bool) {
	spin := p.budgets[1]
	same := spin <= p.budgets[0]
	if same {
		spin = p.eagerPrice() // the gaps may ask for it soon
	}
	more := p.gaps.mean(spin, p.wakeCPU) - p.gaps.mean(p.budgets[0], p.wakeCPU)
	hope := hopeWakes * float64(p.wakeLatency)
	time, cpu := c.each, c.used // as they are, or would be, without the spins
	if p.eager {
		time += hope
		cpu = max(cpu-more, float64(p.wakeCPU))
	}
	least := max(time-hope, min(cpu, time))
	most := min(cpu+more, least) // one thread spins
	if math.Log(time/least) >= latencyPrice*math.Log(most/cpu) {
		return 0, false
	}
	if p.eager && !same {
		lost = max(c.used-cpu, 0)
	}
	return lost, true
}

// epoch measures the work that the stack gets done, and its cost.
type epoch struct {
	events  int
	began   int64 // 0: the next event begins it
	work    int64
	cpu     int64
	started bool // work and cpu are those of its beginning

	last    int64                  // the last event
	longest [epochStrays + 1]int64 // times from one event to the next, longest first
}

const (
	epochEvents = 48
	epochTrial  = 24 // in a trial, and at home until trials have shown something
	epochSettle = 4  // events after a change of mode that belong to neither
	epochMin    = int64(500_000)
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
		return e.events >= epochSettle
	}
	e.space(now - e.last)
	e.last = now
	if trial {
		return e.events >= epochTrial
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
func (e *epoch) void() { *e = epoch{} }

// cost is the cost of an epoch.
type cost struct {
	time, cpu  float64 // logarithms of the time and of the processor time for each byte
	each, used float64 // both for each event, ns
	events     int
}

// all is the sum of both, with processor time weighted by its price.
func (c cost) all() float64 { return c.time + latencyPrice*c.cpu }

// end begins the epoch if it has not begun, else ends it and returns its cost. more
// is as in span.
func (e *epoch) end(now, work, cpu, more int64) (c cost, ok bool) {
	if !e.started {
		*e = epoch{began: now, last: now, work: work, cpu: cpu, started: true}
		return c, false
	}
	whole, t, w, used, n := now-e.began, e.span(now, more), work-e.work, cpu-e.cpu, e.events
	*e = epoch{}
	if whole > epochMax || w <= 0 || used <= 0 {
		return c, false // too sparse to say anything
	}
	return cost{
		time: math.Log(float64(t) / float64(w)), cpu: math.Log(float64(used) / float64(w)),
		each: float64(t) / float64(n), used: float64(used) / float64(n), events: n,
	}, true
}

// trials compares eager epochs with thrifty ones.
type trials struct {
	home    bool // the mode between the trials: true is eager
	trying  bool // this epoch is of the other mode
	paired  bool // the epoch before was a trial
	left    int  // epochs at home before the next trial
	every   int
	before  cost // of the home epoch before the trial
	trial   cost
	usual   float64 // moving average of the cost at home
	known   bool    // usual has a value
	unusual int     // epochs in a row that were much dearer (cheaper: negative)
	rng     uint64
	n       int
	dearer  float64 // processor time of eager above that of thrifty, mean of logarithms
	gain    float64 // of eager over thrifty, mean
	scatter float64 // its variance
	credit  float64 // processor time, ns, that trials may lose before the next waits
	given   float64 // time of an event, ns, when trials were given up; 0: they go on
}

const (
	trialsMost    = 256  // epochs from one trial to the next
	trialsMemory  = 12   // trials that count
	trialsFew     = 2    // one trial does not prove that eager gains
	trialsPrior   = 0.05 // variance of a trial, before any is known
	trialsSure    = 1.5  // standard errors
	trialsLikely  = 0.4  // part of these that suffices when trials do not make sure
	trialsMargin  = 0.03
	trialsDearer  = 0.1 // processor time that eager may cost where the gain is in doubt
	trialsChange  = 0.2 // change of the cost at home, if so for trialsUnusual epochs, that makes the past doubtful
	trialsUnusual = 4
	trialsClear   = 0.2 // gain beyond doubt that makes trials rare soon

	trialsCredit = 2e6  // processor time, ns, that trials may lose at the beginning, and at once
	trialsShare  = 0.04 // part of the processor time at home that they may lose in the long run
)

func (t *trials) init(seed uint64) {
	*t = trials{home: true, left: 1, every: 1, scatter: trialsPrior, rng: seed, credit: trialsCredit}
}

// giveUp is called for an epoch at home which shows that trials would be in vain.
// Each event took lost ns of the processor for nothing.
func (t *trials) giveUp(c cost, lost float64) {
	t.watch(c.all())
	t.earn(c)
	t.credit -= lost * float64(c.events)
	t.home, t.paired, t.left, t.given = false, false, max(t.left, 1), c.each
}

// earn gives credit for a thrifty epoch.
func (t *trials) earn(c cost) {
	t.credit = min(t.credit+trialsShare*c.used*float64(c.events), trialsCredit)
}

// pay takes the additional cost of the eager one of two epochs from the credit.
func (t *trials) pay(eager, thrifty cost) {
	t.credit -= max(eager.used-thrifty.used, 0) * float64(eager.events)
}

// skip is called for an epoch without a choice.
func (t *trials) skip() { t.trying, t.paired, t.left = false, false, max(t.left, 1) }

// next takes the cost of an epoch, and returns the mode of the one that
// follows.
func (t *trials) next(c cost) (eager bool) {
	if t.trying {
		t.trial, t.trying, t.paired = c, false, true
		return t.home
	}
	if again := 2*c.each < t.given; t.given > 0 {
		t.given = 0
		if again && t.credit > 0 {
			// The load changed, or the program was starting: begin anew.
			t.home, t.left, t.every, t.n, t.scatter = true, 1, 1, 0, trialsPrior
			return true
		}
	}
	if t.paired {
		t.paired = false
		above := t.trial.all() - (t.before.all()+c.all())/2
		if t.home && above < 0 {
			t.pay(c, t.trial)
		} else if !t.home && above > 0 {
			t.pay(t.trial, c)
		}
		t.judge(above, t.trial.cpu-(t.before.cpu+c.cpu)/2)
		if t.credit < 0 && t.gain < 0 {
			t.home = false // no credit is left for doubt
		}
	}
	t.before = c
	t.watch(c.all())
	if !t.home {
		t.earn(c)
	}
	if t.left--; t.left <= 0 && (t.home || t.credit > 0) {
		t.wait()
		t.trying = true
		return !t.home
	}
	return t.home
}

// watch has trials come sooner if the cost at home has changed for more than a
// moment, since the other mode may be the better one now.
func (t *trials) watch(cost float64) {
	if !t.known {
		t.usual, t.known = cost, true
	}
	d := cost - t.usual
	switch {
	case math.Abs(d) < trialsChange:
		t.usual += d / 8
		t.unusual = 0
		return
	case d > 0:
		t.unusual = max(t.unusual, 0) + 1
	default:
		t.unusual = min(t.unusual, 0) - 1
	}
	if max(t.unusual, -t.unusual) < trialsUnusual {
		return
	}
	t.usual, t.unusual = cost, 0
	t.every = max(t.every/8, 1)
	t.left = min(t.left, t.every)
	t.n, t.scatter = min(t.n, 2), max(t.scatter, trialsPrior)
	t.credit = max(t.credit, trialsCredit/2)
}

// wait sets how many epochs pass before the next trial. The number is random:
// both ends of a connection try, and must not do so at the same time.
func (t *trials) wait() {
	t.rng = t.rng*6364136223846793005 + 1442695040888963407
	t.left = t.every/2 + 1 + int(t.rng>>33)%t.every
}

// judge takes the cost of a trial above that of its neighbours, and the same for
// the processor time.
func (t *trials) judge(above, cpu float64) {
	gain, dearer := above, -cpu // of eager, where home is eager
	if !t.home {
		gain, dearer = -gain, -dearer
	}
	gain = min(max(gain, -2), 2)
	t.n = min(t.n+1, trialsMemory)
	t.dearer += (min(max(dearer, -2), 2) - t.dearer) / float64(t.n)
	d := gain - t.gain
	if t.n == 1 {
		t.gain, d = gain, 0
	}
	t.gain += d / float64(t.n)
	t.scatter += (d*d - t.scatter) / float64(t.n+1)
	doubt := trialsSure * math.Sqrt(t.scatter/float64(t.n))
	home := t.home
	switch {
	case t.n >= trialsFew && t.gain-doubt > trialsMargin:
		t.home = true
	case t.gain+doubt < trialsMargin:
		t.home = false
	case t.n >= trialsMemory:
		// More trials would show no more. If most likely nothing is gained, the
		// processor should not pay.
		t.home = t.gain-doubt*trialsLikely > trialsMargin || t.dearer < trialsDearer
	default: // not known yet
		t.every = max(t.every/2, 1)
		t.wait()
		return
	}
	switch {
	case home != t.home:
		t.every = 1
	case math.Abs(t.gain)-doubt > trialsClear:
		t.every = min(4*t.every, trialsMost)
	default:
		t.every = min(2*t.every, trialsMost)
	}
	t.wait()
}

// gaps is a histogram of the times to the next packet. It forgets.
type gaps struct {
	count [gapBuckets]uint32
	sum   [gapBuckets]uint64 // of the gaps in the bucket, ns
	total uint32
}

const (
	// Buckets are half octaves, from gapMin up to more than a millisecond.
	gapShift   = 9 // gapMin is 1<<9, 512 ns
	gapBuckets = 26
	gapsMost   = 256 // then all counts are halved
)

// bucket returns the index of the bucket of gap.
func gapBucket(gap int64) int {
	v := uint64(max(gap, 0)) >> (gapShift - 1)
	if v < 2 {
		return 0
	}
	n := bits.Len64(v) - 1 // 1 is the octave from 512 ns on
	i := 2*(n-1) + int(v>>(n-1)&1) + 1
	return min(i, gapBuckets-1)
}

// gapEdge is the upper end of bucket i, in ns.
func gapEdge(i int) int64 {
	if i == 0 {
		return 1 << gapShift
	}
	lower := int64(1) << (gapShift + (i-1)/2)
	if (i-1)%2 == 0 {
		return lower + lower/2
	}
	return 2 * lower
}

func (g *gaps) add(gap int64) {
	i := gapBucket(gap)
	g.count[i]++
	g.sum[i] += uint64(max(gap, 0))
	if g.total++; g.total < gapsMost {
		return
	}
	g.total = 0
	for i := range g.count {
		if g.count[i] > 0 {
			g.sum[i] = g.sum[i] / uint64(g.count[i]) * uint64(g.count[i]/2)
			g.count[i] /= 2
		}
		g.total += g.count[i]
	}
}

// mean returns the cost of a wait with a spin of b ns if a sleep costs price, all
// in ns. A gap in the bucket of b counts as longer than b.
func (g *gaps) mean(b, price int64) float64 {
	longer, spent := int64(g.total), int64(0)
	for i := 0; i < gapBuckets-1 && gapEdge(i) <= b; i++ {
		longer -= int64(g.count[i])
		spent += int64(g.sum[i])
	}
	return float64(spent+longer*(b+price)) / float64(max(g.total, 1))
}

// best returns the spin, in ns, with the least expected cost if a sleep costs
// price.
func (g *gaps) best(price int64) int64 {
	longer := int64(g.total) // gaps that a spin would not outlast
	spent := int64(0)        // by the other gaps
	least, best := longer*price, int64(0)
	for i := range gapBuckets - 1 {
		longer -= int64(g.count[i])
		spent += int64(g.sum[i])
		edge := gapEdge(i)
		if cost := spent + longer*(edge+price); cost < least {
			least, best = cost, edge
		}
	}
	return best
}
