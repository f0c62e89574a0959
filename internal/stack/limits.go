package stack

import (
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/processors"
)

// limits has what the stack knows of the processors that the process may use.
type limits struct {
	watcher *processors.Watcher // under the lock
	next    int64               // when to look again, ns
	wake    processors.Wake     // what a wake-up costs here
	view    processors.View
}

// lookEvery is the time, in ns, between two looks at the limits while packets come.
// A look takes 10 us.
const lookEvery = int64(100_000_000)

// wakeMost is the longest wake-up that is believed, in ns. On a busy machine a
// wake-up takes as long as others run.
const wakeMost = int64(100_000)

// openLimits begins to watch. The cost of a wake-up is measured meanwhile.
func (s *Stack) openLimits() {
	l := &s.waits.limits
	l.watcher = processors.Watch()
	l.view = l.watcher.View()
	s.waits.sharing.learn(l.view.Usable)
	l.next = s.now + lookEvery
	if s.waits.policy == nil {
		return
	}
	s.waits.policy.limited(s.now, l.view.Quota, l.view.Throttled.Throttled)
	l.wake.Set(time.Duration(s.waits.policy.wakeLatency))
	go func() {
		if d, err := processors.WakeCost(); err == nil {
			l.wake.Set(d)
		}
	}()
}

// look tells the policy about the processors again. The lock is held.
func (s *Stack) look() {
	l := &s.waits.limits
	if s.now < l.next || l.watcher == nil {
		return
	}
	l.next = s.now + lookEvery
	l.view = l.watcher.View()
	s.waits.sharing.learn(l.view.Usable)
	s.waits.policy.limited(s.now, l.view.Quota, l.view.Throttled.Throttled)
	s.waits.policy.wakeLatency = min(int64(l.wake.Cost()), wakeMost)
}

// woken notes that the reactor's timer, due at due, woke it now.
func (l *limits) woken(due, now int64) {
	if due != never && now > due {
		l.wake.Observe(time.Duration(now - due))
	}
}

// Warnings says why waiting cannot work as the profile means it, in sentences.
func (s *Stack) Warnings() (l []string) {
	if s.waits.policy != nil || s.waits.spin < longSpin {
		return nil
	}
	s.begin()
	v := s.waits.limits.view
	s.end()
	if v.Quota > 0 {
		l = append(l, fmt.Sprintf("with profile latency, or a long Spin, a waiting goroutine keeps a processor busy, and a cgroup grants %.2g: the process will be throttled; profile balanced sleeps instead", v.Quota))
	}
	if v.Usable == 1 {
		l = append(l, "with profile latency, or a long Spin, a waiting goroutine keeps a processor busy, and there is only one: all else runs when the goroutine gives way, every 10 us; profile balanced shares the processor")
	}
	if n := s.counters.shared.Load(); n > 0 {
		times := "once"
		if n > 1 {
			times = fmt.Sprintf("%d times", n)
		}
		l = append(l, fmt.Sprintf("%s another thread wanted the processor of a goroutine that polled: there are more spinning goroutines and other programs than processors; profile balanced without ONLOAD_SPIN sleeps then", times))
	}
	return l
}

// longSpin is the spin budget from which on a waiting goroutine owns a processor.
const longSpin = int64(time.Millisecond)

// warn logs what Warnings says, once.
func (s *Stack) warn() {
	for _, w := range s.Warnings() {
		s.cfg.Log.Warn(w, zap.String("interface", s.Name()))
	}
}
