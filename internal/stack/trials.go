package stack

import "math"

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
	trialsMore    = 4    // times as many after each that confirms the mode; twice that if it is clear
	trialsSoon    = 4    // epochs to the next trial at most where the past is doubtful
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
	trialsShare  = 0.02 // part of the processor time at home that they may lose in the long run
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
	t.every = min(max(t.every/8, 1), trialsSoon)
	t.left = min(t.left, t.every)
	t.n, t.scatter = min(t.n, 2), max(t.scatter, trialsPrior)
	t.credit = max(t.credit, trialsCredit/2)
}

// wait sets how many epochs pass before the next trial. The number is random, from
// the first on: both ends of a connection try. If they took turns, each end would
// compare its own sleep with the other's, and see no gain in spinning.
func (t *trials) wait() {
	t.rng = t.rng*6364136223846793005 + 1442695040888963407
	t.left = t.every/2 + 1 + int(t.rng>>33)%(t.every+1)
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
		t.every = min(2*trialsMore*t.every, trialsMost)
	default:
		t.every = min(trialsMore*t.every, trialsMost)
	}
	t.wait()
}
