package stack

import (
	"math"
	"math/rand/v2"
)

// A simulation of the policy in virtual time: processors, threads that wait
// for packets as wait.go has it, and what they share the processors with. All
// times are ns; nothing depends on the machine.

const (
	simNever = int64(math.MaxInt64)
	// simTick is how long the kernel lets a thread go on while another waits.
	simTick = int64(4_000_000)
	// simSwitch is the processor time of a yield that ran another thread.
	simSwitch = int64(1_600)
	simPeriod = int64(100_000_000) // of a quota
)

// decider is what is simulated: the policy as the stack drives it, or a fixed
// budget.
type decider interface {
	budget(now int64) int64
	arrived(now, gap int64, slept bool, work, cpu int64)
	shared(now int64)
}

// fixed is a budget that never changes.
type fixed int64

func (f fixed) budget(int64) int64                       { return int64(f) }
func (f fixed) arrived(int64, int64, bool, int64, int64) {}
func (f fixed) shared(int64)                             {}

// driven is a policy, driven as by learn.go, limits.go and sharing.go.
type driven struct {
	*policy
	spinNow, sharedUntil int64
	quota                int64 // of its cgroup, processor time in simPeriod, 0: none

	waits  int // that ended with a packet
	turned int // waits before the mode between the trials last changed

	// How a mutant is made.
	bend  func()
	scale float64 // of gaps, 0: 1
	deaf  bool
}

func drive(p *policy) *driven { return &driven{policy: p, spinNow: p.budget(0)} }

func (d *driven) budget(now int64) int64 {
	if now < d.sharedUntil {
		return 0
	}
	return d.spinNow
}

func (d *driven) arrived(now, gap int64, slept bool, work, cpu int64) {
	if d.scale != 0 {
		gap = int64(d.scale * float64(gap))
	}
	if d.quota > 0 {
		d.limited(now, float64(d.quota)/float64(simPeriod), 0)
	}
	d.waits++
	home := d.trials.home
	if d.policy.arrived(now, gap, slept) {
		d.endEpoch(now, work, cpu)
	}
	if d.trials.home != home {
		d.turned = d.waits
	}
	if d.bend != nil {
		d.bend()
	}
	d.spinNow = d.policy.budget(now)
}

func (d *driven) shared(now int64) {
	if d.deaf {
		return
	}
	d.policy.shared(now)
	d.sharedUntil = d.policy.sharedUntil
}

// simPacket is a packet on its way, or received and not served yet.
type simPacket struct {
	conn, phase int32
	work        int32 // bytes
	answer      bool  // the last of a request, or of an answer
	service     int64 // processor time
}

type simState uint8

const (
	simAsleep simState = iota
	simWaking
	simReady
	simRunning
	simThrottled
)

// simNext is what a thread does after it has computed.
type simNext uint8

const (
	simServed simNext = iota // a packet
	simFell                  // it has fallen asleep
	simRose                  // it has woken up
	simBurst                 // a rival's burst
)

// simThread is a thread on a processor: a stack with the goroutine that waits
// for its packets, or a rival.
type simThread struct {
	w     *simWorld
	cpu   *simCPU
	state simState
	timer int64 // when something happens to it
	since int64 // when it began to run
	used  int64 // processor time
	rival bool

	computing bool // else it spins
	left      int64
	next      simNext

	// Of a stack.
	by       decider
	wake     simWake
	inbox    []simPacket
	head     int
	batch    int // packets of the inbox that the last poll turn took
	start    int64
	slept    bool
	until    int64 // end of the spin
	yield    int64 // next courtesy
	began    int64 // of the spin
	halted   int64 // when another thread took the processor from the spin, 0: none did
	spun     int64 // spinning that is looked at together
	lost     int64 // of that to others
	times    int   // how often
	work     int64
	answered int64
	awake    int64                        // since when it has not slept
	falls    int                          // how often it fell asleep, or was about to
	serve    func(p simPacket, now int64) // the end of a packet's service

	quota, quotaUsed, quotaEnd int64 // 0: none

	// Of a rival.
	busy, idle int64
}

// simWake is what a sleep costs.
type simWake struct {
	latency, cpu int64
	noise        float64 // of the latency, relative
}

func (s simWake) draw(r *rand.Rand) int64 {
	if s.noise == 0 {
		return s.latency
	}
	return max(int64(float64(s.latency)*(1+s.noise*(2*r.Float64()-1))), s.cpu/2)
}

// charge accounts for what has run until now.
func (t *simThread) charge(now int64) {
	d := now - t.since
	t.since = now
	t.used += d
	t.quotaUsed += d
	if t.computing {
		t.left -= d
	}
}

// total is the processor time until now.
func (t *simThread) total(now int64) int64 {
	if t.state == simRunning {
		return t.used + now - t.since
	}
	return t.used
}

// begin has the thread go on with what it does.
func (t *simThread) begin(now int64) {
	t.state, t.since = simRunning, now
	if !t.computing && t.halted > 0 {
		d := now - t.halted
		t.halted = 0
		t.lost += d
		t.times++
		t.used += simSwitch
		if d >= sharedAtOnce {
			t.by.shared(now)
			t.until = now
		}
	}
	t.set(now)
}

// endSpin is what sharing.go does after a spin.
func (t *simThread) endSpin(now int64) {
	if t.spun += now - t.began; t.spun < sharedLook && t.lost < sharedLook {
		return
	}
	if t.lost*sharedShare >= t.spun && t.times >= sharedTimes {
		t.by.shared(now)
	}
	t.spun, t.lost, t.times = 0, 0, 0
}

// set sets the timer of a thread that runs.
func (t *simThread) set(now int64) {
	if t.computing {
		t.timer = now + t.left
	} else if t.head < len(t.inbox) {
		t.timer = now
	} else {
		t.timer = t.until
		if len(t.cpu.threads) > 1 {
			t.timer = min(t.timer, t.yield)
		}
	}
	t.timer = max(t.timer, now)
	if t.quota > 0 {
		if now >= t.quotaEnd {
			t.quotaUsed, t.quotaEnd = 0, (now/simPeriod+1)*simPeriod
		}
		t.timer = min(t.timer, t.quotaEnd, now+max(t.quota-t.quotaUsed, 0))
	}
}

// halt takes the thread off its processor.
func (t *simThread) halt(now int64) {
	t.charge(now)
	t.state, t.timer = simReady, simNever
	if !t.computing {
		t.halted = now
	}
}

// compute has the thread compute for d, and then do next.
func (t *simThread) compute(now, d int64, next simNext) {
	t.computing, t.left, t.next = true, d, next
	t.set(now)
}

// fire is what happens when the timer is due.
func (t *simThread) fire(now int64) {
	switch t.state {
	case simWaking, simThrottled:
		t.cpu.ready(t, now)
		return
	case simAsleep: // a rival
		t.computing, t.left, t.next = true, t.w.exp(t.busy), simBurst
		t.cpu.ready(t, now)
		return
	}
	t.charge(now)
	if t.quota > 0 && t.quotaUsed >= t.quota && now < t.quotaEnd {
		t.halt(now)
		t.state, t.timer = simThrottled, t.quotaEnd
		t.cpu.release(now)
		return
	}
	if t.computing {
		if t.left > 0 {
			t.set(now)
			return
		}
		t.done(now)
		return
	}
	switch {
	case t.head < len(t.inbox):
		t.endSpin(now)
		t.poll(now)
	case now >= t.until:
		t.endSpin(now)
		t.fall(now)
	case now >= t.yield && len(t.cpu.threads) > 1:
		t.yield = now + courtesyEvery
		if len(t.cpu.queue) > 0 {
			t.cpu.rotate(now)
			return
		}
		t.set(now)
	default:
		t.set(now)
	}
}

// done is what follows what was computed.
func (t *simThread) done(now int64) {
	switch t.next {
	case simBurst:
		t.sleepRival(now)
		return
	case simServed:
		p := t.inbox[t.head]
		t.head++
		t.batch--
		t.serve(p, now)
		t.goOn(now)
	case simFell:
		if t.head < len(t.inbox) {
			// The last look before falling asleep found it.
			t.compute(now, t.wake.cpu/2, simRose)
			return
		}
		t.state, t.timer = simAsleep, simNever
		t.cpu.release(now)
	case simRose:
		t.awake = now
		t.poll(now)
	}
}

func (t *simThread) sleepRival(now int64) {
	d := t.w.exp(t.idle)
	if d == 0 {
		t.compute(now, t.busy, simBurst)
		return
	}
	t.state, t.timer = simAsleep, now+d
	t.cpu.release(now)
}

// poll is a poll turn that finds packets, after a wait.
func (t *simThread) poll(now int64) {
	t.take()
	t.by.arrived(now, now-t.start, t.slept, t.work, t.used)
	t.goOn(now)
}

// take receives all that has come.
func (t *simThread) take() {
	t.batch = len(t.inbox) - t.head
	for _, p := range t.inbox[t.head:] {
		t.work += int64(p.work)
	}
}

// goOn serves the next packet, or waits.
func (t *simThread) goOn(now int64) {
	if t.batch > 0 {
		t.compute(now, t.inbox[t.head].service, simServed)
		return
	}
	t.start, t.slept = now, false
	if t.head < len(t.inbox) {
		t.take()
		t.by.arrived(now, 0, false, t.work, t.used)
		t.compute(now, t.inbox[t.head].service, simServed)
		return
	}
	t.inbox, t.head = t.inbox[:0], 0
	b := t.by.budget(now)
	if b <= 0 {
		t.fall(now)
		return
	}
	t.computing = false
	t.began, t.until, t.yield, t.halted = now, now+b, now+courtesyFirst, 0
	t.set(now)
}

func (t *simThread) fall(now int64) {
	t.slept = true
	t.falls++
	t.compute(now, t.wake.cpu/2, simFell)
}

// receive is the arrival of a packet.
func (t *simThread) receive(p simPacket, now int64) {
	t.inbox = append(t.inbox, p)
	switch {
	case t.state == simAsleep:
		t.computing, t.left, t.next = true, t.wake.cpu/2, simRose
		t.state = simWaking
		latency := t.wake.draw(t.w.noise)
		if t.cpu.cur != nil {
			latency = t.wake.cpu / 2 // nothing has to be roused
		}
		t.timer = now + max(latency-t.wake.cpu/2, 0)
	case t.state == simRunning && !t.computing:
		t.timer = now
	}
}

// simCPU is a processor.
type simCPU struct {
	threads []*simThread
	cur     *simThread
	queue   []*simThread
	tick    int64 // when cur has to give way
}

// ready makes t runnable.
func (c *simCPU) ready(t *simThread, now int64) {
	t.state, t.timer = simReady, simNever
	cur := c.cur
	if cur == nil {
		c.cur = t
		t.begin(now)
		return
	}
	// A thread that has slept preempts one that computes on, and now and then a
	// spinner.
	if cur.rival && !t.rival || t.rival && !cur.computing && t.w.noise.Uint64()&1 == 0 {
		cur.halt(now)
		c.queue = append(c.queue, cur)
		c.cur = t
		c.tick = now + simTick
		t.begin(now)
		return
	}
	c.queue = append(c.queue, t)
	c.tick = min(c.tick, now+simTick)
}

// release has the next thread run: cur does not want to.
func (c *simCPU) release(now int64) {
	c.cur, c.tick = nil, simNever
	if len(c.queue) == 0 {
		return
	}
	t := c.queue[0]
	c.queue = append(c.queue[:0], c.queue[1:]...)
	c.cur = t
	if len(c.queue) > 0 {
		c.tick = now + simTick
	}
	t.begin(now)
}

// rotate has the next thread run, and cur after all others.
func (c *simCPU) rotate(now int64) {
	t := c.cur
	t.halt(now)
	c.queue = append(c.queue, t)
	c.release(now)
}

// simEvent is a packet that arrives, or where it is nobody's the moment at
// which an open loop sends.
type simEvent struct {
	at  int64
	seq uint64
	to  *simThread
	p   simPacket
}

type simWorld struct {
	now     int64
	seq     uint64
	heap    []simEvent
	cpus    []*simCPU
	threads []*simThread
	open    func(phase int32, now int64)

	arrivals *rand.Rand // one for each cause: policies see the same arrivals
	noise    *rand.Rand
}

func newSimWorld(seed uint64) *simWorld {
	return &simWorld{
		arrivals: rand.New(rand.NewPCG(seed, 1)),
		noise:    rand.New(rand.NewPCG(seed, 2)),
	}
}

func (w *simWorld) exp(mean int64) int64 { return int64(w.noise.ExpFloat64() * float64(mean)) }

func (w *simWorld) newCPU() *simCPU {
	c := &simCPU{tick: simNever}
	w.cpus = append(w.cpus, c)
	return c
}

func (w *simWorld) newThread(c *simCPU) *simThread {
	t := &simThread{w: w, cpu: c, timer: simNever}
	w.threads = append(w.threads, t)
	c.threads = append(c.threads, t)
	return t
}

func (w *simWorld) at(at int64, to *simThread, p simPacket) {
	w.seq++
	h := append(w.heap, simEvent{at, w.seq, to, p})
	i := len(h) - 1
	for i > 0 {
		up := (i - 1) / 2
		if !h[i].before(&h[up]) {
			break
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
	w.heap = h
}

func (e *simEvent) before(o *simEvent) bool {
	return e.at < o.at || e.at == o.at && e.seq < o.seq
}

func (w *simWorld) pop() simEvent {
	h := w.heap
	e := h[0]
	n := len(h) - 1
	h[0] = h[n]
	h = h[:n]
	for i := 0; ; {
		down := 2*i + 1
		if down >= n {
			break
		}
		if down+1 < n && h[down+1].before(&h[down]) {
			down++
		}
		if !h[down].before(&h[i]) {
			break
		}
		h[i], h[down] = h[down], h[i]
		i = down
	}
	w.heap = h
	return e
}

// run lets time pass until end.
func (w *simWorld) run(end int64) {
	for {
		at := end
		var t *simThread
		for _, u := range w.threads {
			if u.timer < at {
				at, t = u.timer, u
			}
		}
		var tick *simCPU
		for _, c := range w.cpus {
			if c.tick < at {
				at, tick = c.tick, c
			}
		}
		switch {
		case len(w.heap) > 0 && w.heap[0].at <= at && w.heap[0].at < end:
			e := w.pop()
			w.now = e.at
			if e.to == nil {
				w.open(e.p.phase, e.at)
			} else {
				e.to.receive(e.p, e.at)
			}
		case tick != nil:
			w.now = at
			tick.tick = simNever
			if len(tick.queue) > 0 {
				tick.rotate(at)
			}
		case t != nil:
			w.now = at
			t.fire(at)
		default:
			w.now = end
			return
		}
	}
}
