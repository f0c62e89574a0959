package stack

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
)

// shape is how times spread around their mean.
type shape uint8

const (
	constant shape = iota
	jitter         // uniform, +-30 %
	exponential
	pareto   // heavy tail, exponent 1.5
	bimodal  // nine of ten are a quarter of the mean, the others the rest
	stalling // jitter, and one in 25 takes a millisecond longer
	shapes
)

var shapeNames = [...]string{"const", "jitter", "exp", "pareto", "bimodal", "stalling"}

func (s shape) draw(mean int64, r *rand.Rand) int64 {
	m := float64(mean)
	switch s {
	case jitter:
		m *= 0.7 + 0.6*r.Float64()
	case exponential:
		m *= r.ExpFloat64()
	case pareto:
		m = min(m/3*math.Pow(1-r.Float64(), -1/1.5), 300*m)
	case stalling:
		m *= 0.7 + 0.6*r.Float64()
		if r.IntN(25) == 0 {
			m += 1e6
		}
	case bimodal:
		if r.Float64() < 0.9 {
			m /= 4
		} else {
			m *= (1 - 0.9/4) / 0.1
		}
	}
	return int64(m)
}

// load is how requests come.
type load struct {
	conns int   // of a closed loop: each asks again when it was answered; 0: an open loop
	gap   int64 // mean time from answer to request, or from request to request
	shape shape
	split int64 // a request is of two packets so far apart; 0: of one
	acks  bool  // the answer is acknowledged by a packet of its own
	burst int   // of an open loop: so many requests,
	pause int64 // and then a pause; 0: none
	lasts int64 // then comes the next load of the scenario; 0: for ever
}

func (l load) String() string {
	var b strings.Builder
	if l.conns > 0 {
		fmt.Fprintf(&b, "closed %d", l.conns)
	} else {
		b.WriteString("open")
	}
	fmt.Fprintf(&b, " %gus %s", float64(l.gap)/1e3, shapeNames[l.shape])
	if l.split > 0 {
		fmt.Fprintf(&b, " split %gus", float64(l.split)/1e3)
	}
	if l.acks {
		b.WriteString(" acks")
	}
	if l.burst > 0 {
		fmt.Fprintf(&b, " bursts of %d every %gms", l.burst, float64(l.pause)/1e6)
	}
	if l.lasts > 0 {
		fmt.Fprintf(&b, " for %gms", float64(l.lasts)/1e6)
	}
	return b.String()
}

// scenario is one simulation without the decider.
type scenario struct {
	seed    uint64
	loads   []load // one after the other, in a circle
	wake    simWake
	service int64 // processor time of a request, mean

	rivalBusy, rivalIdle int64 // another thread's bursts and pauses, means; 0: none
	quota                int64 // processor time in 100 ms; 0: no limit
	shares               bool  // the clients run on the server's processor
	clientWaits          bool  // the clients are one thread that waits as well
	lag                  int64 // by how much packets of a thread that slept of late are slower
}

func (s scenario) String() string {
	var b strings.Builder
	for i, l := range s.loads {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(l.String())
	}
	fmt.Fprintf(&b, "; wake %g+%gus", float64(s.wake.latency)/1e3, float64(s.wake.cpu)/1e3)
	if s.wake.noise > 0 {
		fmt.Fprintf(&b, " +-%g%%", 100*s.wake.noise)
	}
	fmt.Fprintf(&b, ", service %gus", float64(s.service)/1e3)
	if s.rivalBusy > 0 {
		fmt.Fprintf(&b, ", rival %g of %gus", float64(s.rivalBusy)/1e3, float64(s.rivalBusy+s.rivalIdle)/1e3)
	}
	if s.quota > 0 {
		fmt.Fprintf(&b, ", quota %g%%", float64(s.quota)/float64(simPeriod)*100)
	}
	if s.shares {
		b.WriteString(", one processor")
	} else if s.clientWaits {
		b.WriteString(", client waits too")
	}
	if s.lag > 0 {
		fmt.Fprintf(&b, ", slower by %gus after sleep", float64(s.lag)/1e3)
	}
	return fmt.Sprintf("%s, seed %d", b.String(), s.seed)
}

// scarce reports whether the server's processor time is wanted, by a quarter at
// least, or limited: it then counts in full.
func (s scenario) scarce() bool {
	return s.rivalBusy > 0 && 3*s.rivalBusy >= s.rivalIdle || s.quota > 0 || s.shares
}

// disturbed reports whether somebody else uses the server's processor, or its time
// is limited.
func (s scenario) disturbed() bool { return s.rivalBusy > 0 || s.scarce() }

func (s scenario) isOpen() bool {
	for _, l := range s.loads {
		if l.conns > 0 {
			return false
		}
	}
	return true
}

func (s scenario) isClosed() bool {
	for _, l := range s.loads {
		if l.conns == 0 {
			return false
		}
	}
	return true
}

const (
	simWire    = int64(1_000) // one way
	simRequest = int32(100)   // bytes
	simAck     = int64(300)   // processor time of a packet that asks for nothing

	// simRouse is for how long a processor must not sleep until it is fast. A wait
	// of gRPC took 119 us where it slept, 111 in the first 3 ms of spinning, and
	// 89 from 6 ms on (a virtual machine).
	simRouse = int64(6_000_000)
)

// running is a simulation of a scenario that has begun.
type running struct {
	scenario
	w              *simWorld
	server, client *simThread
	phase          int32
	sent           int // requests of this phase
	ends           int64
}

// start begins the simulation. client decides for the clients where they are
// a thread, and may be nil.
func (s scenario) start(server, client decider) *running {
	w := newSimWorld(s.seed)
	r := &running{scenario: s, w: w}
	cpu := w.newCPU()
	r.server = w.newThread(cpu)
	r.server.by, r.server.wake, r.server.serve = server, s.wake, r.served
	r.server.quota = s.quota
	r.server.goOn(0)
	r.server.state = simRunning
	cpu.cur = r.server
	if s.clientWaits || s.shares {
		if client == nil {
			client = fixed(0)
		}
		on := cpu
		if !s.shares {
			on = w.newCPU()
		}
		r.client = w.newThread(on)
		r.client.by, r.client.wake, r.client.serve = client, s.wake, r.received
		r.client.computing = true
	}
	if s.rivalBusy > 0 {
		t := w.newThread(cpu)
		t.rival, t.busy, t.idle, t.timer = true, s.rivalBusy, s.rivalIdle, s.rivalIdle
	}
	w.open = r.open
	r.begin(0)
	return r
}

func (r *running) load() *load { return &r.loads[int(r.phase)%len(r.loads)] }

// begin begins the phase.
func (r *running) begin(now int64) {
	l := r.load()
	r.sent, r.ends = 0, simNever
	if l.lasts > 0 {
		r.ends = now + l.lasts
	}
	if l.conns == 0 {
		r.w.at(now+l.shape.draw(l.gap, r.w.arrivals), nil, simPacket{phase: r.phase})
		return
	}
	for i := range l.conns {
		r.request(now+l.shape.draw(l.gap, r.w.arrivals), int32(i))
	}
}

// run lets time pass until end, through the phases.
func (r *running) run(end int64) {
	for r.ends < end {
		at := r.ends
		r.w.run(at)
		r.phase++
		r.begin(at)
	}
	r.w.run(end)
}

// request sends one.
func (r *running) request(now int64, conn int32) {
	l := r.load()
	p := simPacket{conn: conn, phase: r.phase, work: simRequest, answer: true}
	p.service = jitter.draw(r.service, r.w.arrivals)
	if l.split > 0 {
		r.w.at(now+simWire, r.server, simPacket{work: simRequest / 2, service: simAck})
		now += jitter.draw(l.split, r.w.arrivals)
		p.work /= 2
	}
	r.w.at(now+simWire, r.server, p)
}

// open is the moment of an open loop's request.
func (r *running) open(phase int32, now int64) {
	if phase != r.phase {
		return
	}
	l := r.load()
	r.request(now, int32(r.sent))
	r.sent++
	now += l.shape.draw(l.gap, r.w.arrivals)
	if l.burst > 0 && r.sent%l.burst == 0 {
		now += l.pause
	}
	r.w.at(now, nil, simPacket{phase: phase})
}

// served is the end of a packet's service at the server.
func (r *running) served(p simPacket, now int64) {
	if !p.answer {
		return
	}
	r.server.answered++
	r.server.work += int64(simRequest)
	l := r.load()
	if l.acks {
		r.w.at(now+2*simWire+2_000, r.server, simPacket{service: simAck})
	}
	if l.conns == 0 || p.phase != r.phase {
		return
	}
	think := l.shape.draw(l.gap, r.w.arrivals)
	if r.client == nil {
		r.request(now+simWire+r.late(r.server, now)+think, p.conn)
		return
	}
	p.service, p.work = think, simRequest
	r.w.at(now+simWire+r.late(r.server, now), r.client, p)
}

// received is the end of an answer's service at a client that is a thread.
func (r *running) received(p simPacket, now int64) {
	r.client.work += int64(simRequest)
	if p.phase == r.phase {
		r.request(now+r.late(r.client, now), p.conn)
	}
}

// late is by how much a packet that t sends is slower.
func (r *running) late(t *simThread, now int64) int64 {
	if now-t.awake < simRouse {
		return r.lag
	}
	return 0
}

// tally is what was done from one moment to another.
type tally struct {
	time, cpu, answered int64
}

func (r *running) tally() tally {
	return tally{r.w.now, r.server.total(r.w.now), r.server.answered}
}

func (t tally) since(o tally) tally {
	return tally{t.time - o.time, t.cpu - o.cpu, t.answered - o.answered}
}

// cost is the objective: the logarithm of the time of a request, and as much of
// that of its processor time as it is worth.
func (t tally) cost(price float64) float64 {
	n := math.Max(float64(t.answered), 1)
	return math.Log(float64(t.time)/n) + price*math.Log(math.Max(float64(t.cpu), 1)/n)
}

// rate is in requests a second.
func (t tally) rate() float64 { return float64(t.answered) / float64(t.time) * 1e9 }

// each is the processor time of a request, ns.
func (t tally) each() float64 { return float64(t.cpu) / math.Max(float64(t.answered), 1) }

// span returns for how long the policy may learn, and for how long it is
// measured after that.
func (s scenario) span() (learn, measure int64) {
	mean, circle := int64(0), int64(0)
	for _, l := range s.loads {
		c := l.gap
		if l.conns > 0 {
			c = max((c+s.service+2*simWire+min(s.wake.latency, 30_000))/int64(l.conns), s.service)
		} else if l.burst > 0 {
			c += l.pause / int64(l.burst)
		}
		mean += c / int64(len(s.loads))
		circle += l.lasts
	}
	learn = max(learnRequests*mean, learnLeast)
	measure = max(measureRequests*mean, measureLeast)
	if circle > 0 {
		learn = (learn + circle - 1) / circle * circle
		measure = (measure + circle - 1) / circle * circle
	}
	return learn, measure
}

const (
	learnRequests   = 3_000
	learnLeast      = int64(500_000_000)
	measureRequests = 12_000
	measureLeast    = int64(20_000_000)
)

// simulate returns what is done after the time to learn, and how often the server
// fell asleep since the start.
func (s scenario) simulate(d decider) (t tally, falls int) {
	learn, measure := s.span()
	r := s.start(d, nil)
	r.run(learn)
	before := r.tally()
	r.run(learn + measure)
	return r.tally().since(before), r.server.falls
}
