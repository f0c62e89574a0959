package engine

import (
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/event"
	"github.com/onload-go/onload/internal/stack"
)

// alarmEvery is the time between two looks at the counters.
const alarmEvery = 10 * time.Second

// alarmAgain is how long nothing more is said about a counter.
const alarmAgain = 5 * time.Minute

// watched is a counter that says something is wrong when it grows fast.
type watched struct {
	name string // of package onload's Stats.Each
	rate uint64 // events a second that are still well
	of   func(*stack.Stats) uint64
}

// watchlist has the signs of overflow, and of attacks. Each rate is far above what
// mistakes, scans and a bad link make.
var watchlist = []watched{
	{"TCP.ListenOverflows", 10, func(s *stack.Stats) uint64 { return s.TCP.ListenOverflows.Load() }},
	{"TCP.SyncookiesSent", 100, func(s *stack.Stats) uint64 { return s.TCP.SyncookiesSent.Load() }},
	{"TCP.SyncookiesFailed", 100, func(s *stack.Stats) uint64 { return s.TCP.SyncookiesFailed.Load() }},
	{"TCP.TCPChallengeACK", 100, func(s *stack.Stats) uint64 { return s.TCP.TCPChallengeACK.Load() }},
	{"TCP.BogusFlags", 100, func(s *stack.Stats) uint64 { return s.TCP.BogusFlags.Load() }},
	{"TCP.OfoPruned", 100, func(s *stack.Stats) uint64 { return s.TCP.OfoPruned.Load() }},
	{"TCP.TCPAbortOnMemory", 10, func(s *stack.Stats) uint64 { return s.TCP.TCPAbortOnMemory.Load() }},
	{"TCP.TCPTimeWaitOverflow", 10, func(s *stack.Stats) uint64 { return s.TCP.TCPTimeWaitOverflow.Load() }},
	{"RxMalformed", 100, func(s *stack.Stats) uint64 { return s.RxMalformed }},
	{"RxBogus", 100, func(s *stack.Stats) uint64 { return s.RxBogus }},
	{"RxChecksum", 100, func(s *stack.Stats) uint64 { return s.RxChecksum }},
	{"RxNoSocket", 1000, func(s *stack.Stats) uint64 { return s.RxNoSocket }},
	{"TxResets", 1000, func(s *stack.Stats) uint64 { return s.TxResets }},
	{"Fragments.Evicted", 10, func(s *stack.Stats) uint64 { return s.Fragments.Evicted }},
	{"Fragments.Overlaps", 10, func(s *stack.Stats) uint64 { return s.Fragments.Overlaps }},
	{"UDPRcvbufErrors", 1000, func(s *stack.Stats) uint64 { return s.UDPRcvbufErrors }},
	{"UDPMemErrors", 100, func(s *stack.Stats) uint64 { return s.UDPMemErrors }},
	{"HandOverDrops", 100, func(s *stack.Stats) uint64 { return s.HandOverDrops }},
	{"InletsWithoutRoom", 0, func(s *stack.Stats) uint64 { return s.InletsWithoutRoom }},
}

// watch logs counters that grow fast.
type watch struct {
	e    *Engine
	last map[*stack.Stack]*seen
	stop chan struct{}
	done chan struct{}
}

// seen is what a team had counted at the last look, and when a counter was last spoken
// of.
type seen struct {
	at    time.Time
	stats stack.Stats
	said  map[string]time.Time
}

// startWatch has the counters looked at until the engine closes.
func (e *Engine) startWatch() {
	w := &watch{e: e, last: map[*stack.Stack]*seen{}, stop: make(chan struct{}), done: make(chan struct{})}
	e.watch = w
	w.look(time.Now())
	go w.run()
}

func (w *watch) run() {
	defer close(w.done)
	t := time.NewTicker(alarmEvery)
	defer t.Stop()
	for {
		select {
		case <-w.stop:
			return
		case now := <-t.C:
			w.look(now)
		}
	}
}

func (w *watch) close() {
	if w == nil {
		return
	}
	close(w.stop)
	<-w.done
}

// look compares the counters with those of the last look.
func (w *watch) look(now time.Time) {
	last := map[*stack.Stack]*seen{}
	names := map[*stack.Stack][]string{}
	var order []*Interface
	for _, i := range w.e.interfaces() {
		s := i.first()
		if s == nil {
			continue
		}
		if names[s] == nil {
			order = append(order, i)
		}
		names[s] = append(names[s], i.Name)
	}
	for _, i := range order {
		s := i.first()
		n := &seen{at: now, stats: stack.TeamCounts(i.Stacks), said: map[string]time.Time{}}
		if was := w.last[s]; was != nil {
			n.said = was.said
			w.compare(strings.Join(names[s], ","), was, n)
		}
		last[s] = n
	}
	w.last = last
}

// compare logs what has grown fast from was to n.
func (w *watch) compare(interfaces string, was, n *seen) {
	seconds := uint64(max(n.at.Sub(was.at).Seconds(), 1))
	for _, c := range watchlist {
		before, after := c.of(&was.stats), c.of(&n.stats)
		if after <= before || (after-before)/seconds < max(c.rate, 1) && c.rate > 0 {
			continue
		}
		if said, ok := n.said[c.name]; ok && n.at.Sub(said) < alarmAgain {
			continue
		}
		n.said[c.name] = n.at
		w.e.log.Warn("a counter grows fast", event.CounterHigh.Field(), zap.String("interface", interfaces),
			zap.String("counter", c.name), zap.Uint64("rate", (after-before)/seconds))
	}
}
