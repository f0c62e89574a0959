package stack

import "math"

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
	// hopeLeast is how much earlier, in ns, that may be where a wake-up takes little:
	// with one of 16 us a wait of gRPC took 45 us less.
	hopeLeast = 60_000
	// hopeMargin is how much more than its price that must be worth: trials cost too.
	hopeMargin = 1.25

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
	p.epoch.rise(p.sharedUntil)
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
	eager := p.eager
	p.choose(now, c, ok)
	if p.eager && !eager {
		p.epoch.rise(now)
	}
}

// choose takes the cost of an epoch that has ended at now, if ok, and sets the mode
// of the next.
func (p *policy) choose(now int64, c cost, ok bool) {
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
	hope := max(hopeWakes*float64(p.wakeLatency), hopeLeast)
	time, cpu := c.each, c.used // as they are, or would be, without the spins
	if p.eager {
		time += hope
		cpu = max(cpu-more, float64(p.wakeCPU))
	}
	least := max(time-hope, min(cpu, time))
	most := min(cpu+more, least) // one thread spins
	if math.Log(time/least) >= hopeMargin*latencyPrice*math.Log(most/cpu) {
		return 0, false
	}
	if p.eager && !same {
		lost = max(c.used-cpu, 0)
	}
	return lost, true
}
