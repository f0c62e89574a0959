package control

import (
	"crypto/rand"
	"hash/maphash"
	"sync"
	"time"

	"github.com/onload-go/onload/ip"
)

// Verdict is what the kernel would do with a packet to one of our addresses.
type Verdict uint8

const (
	Refused Verdict = iota
	Accepted
	// AcceptedFlow: accepted, but rules ask for ports or TOS, so that other packets
	// between these addresses may not be.
	AcceptedFlow
	// Unasked: only the kernel knows, and was asked too often already.
	Unasked
	// Elsewhere: the packet is not this host's, whatever its addresses say. A rule that
	// comes before the local table leads it on.
	Elsewhere
)

func verdictOf(accepted bool) Verdict {
	if accepted {
		return Accepted
	}
	return Refused
}

// The kernel is asked under the stack lock, and a question takes 4.7 us, a known
// verdict 0.2 (BenchmarkAccepts). A flood of new sources has questions asked for 5 %
// of a processor and no more.
const (
	questionsPerSecond = 10000
	questionsBurst     = 1000
)

// verdictSlots bounds the answers that are remembered, of each kind.
const verdictSlots = 4096

// verdicts are the kernel's answers to Accepts. Sources that are accepted and others do
// not take each other's places, so that a flood of refused ones costs no honest source
// its own.
type verdicts struct {
	mu        sync.Mutex
	seed      maphash.Seed // secret: nobody aims at another's place
	began     time.Time
	of        *view
	questions ip.Limiter
	accepted  []answerIn // nil until the kernel is asked for the first time
	others    []answerIn
}

// packetIn is what the kernel looks at of a packet that comes, and the link that it
// comes by (Linux's __fib_validate_source, ip_route_input_slow, ip6_route_input).
type packetIn struct {
	src, dst         [16]byte
	srcPort, dstPort uint16 // 0 unless rules ask for ports or TOS
	proto, tos       uint8
	link             int
}

func newPacketIn(link int, f Flow) packetIn {
	return packetIn{f.Src.As16(), f.Dst.As16(), f.SrcPort, f.DstPort, f.Proto, f.TOS, link}
}

// answerIn is an answer, and when it was given, on the clock of verdicts; 0: none.
type answerIn struct {
	packetIn
	verdict Verdict
	at      time.Duration
}

func (d *verdicts) init() {
	var seed [32]byte
	_, _ = rand.Read(seed[:]) // never fails since Go 1.24
	d.seed, d.began = maphash.MakeSeed(), time.Now()
	d.questions.Init(0, questionsPerSecond, questionsBurst, seed)
}

// clock returns the time since init.
func (d *verdicts) clock() time.Duration { return time.Since(d.began) }

// get returns the verdict on a packet that comes now, as ask says, whose answers are
// remembered for cacheTime or until the view changes.
func (d *verdicts) get(v *view, p packetIn, ask func() Verdict) Verdict {
	d.mu.Lock()
	defer d.mu.Unlock()
	// Only now: a clock that was read before others had the lock would turn the limiter's
	// back, which would count that time twice.
	return d.at(d.clock(), v, p, ask)
}

// at is get at a time. The caller holds mu.
func (d *verdicts) at(now time.Duration, v *view, p packetIn, ask func() Verdict) Verdict {
	if d.accepted == nil {
		d.accepted, d.others = make([]answerIn, verdictSlots), make([]answerIn, verdictSlots)
	}
	if d.of != v {
		d.of = v
		clear(d.accepted)
		clear(d.others)
	}
	i := maphash.Comparable(d.seed, p) % verdictSlots
	for _, known := range []*answerIn{&d.accepted[i], &d.others[i]} {
		if known.answers(p, now) {
			return known.verdict
		}
	}
	if !d.questions.Allow(int64(now)) {
		return Unasked
	}
	verdict := ask()
	if verdict == Accepted {
		d.accepted[i] = answerIn{p, verdict, now}
	} else {
		d.others[i] = answerIn{p, verdict, now}
	}
	return verdict
}

// answers reports whether a is about p, and not too old.
func (a *answerIn) answers(p packetIn, now time.Duration) bool {
	return a.at != 0 && a.packetIn == p && now-a.at < cacheTime
}
