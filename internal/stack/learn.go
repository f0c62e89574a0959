package stack

import "golang.org/x/sys/unix"

// What a sleep costs, ns: processor time, and latency.
const (
	wakeCPU     = int64(6_000)
	wakeLatency = int64(30_000) // until it is measured
)

// startWaiting makes what goroutines wait with.
func (s *Stack) startWaiting() (err error) {
	if err = s.breath.init(); err != nil {
		return err
	}
	s.openLimits()
	s.makeSeat()
	if err = s.setSeat(); err == nil {
		err = s.startReactor()
	}
	if err != nil {
		s.closeSeat()
		s.breath.close()
		s.limits.watcher.Close()
	}
	return err
}

// arrived tells the policy that a wait ended with a packet, gap ns after it
// began; slept reports whether the goroutine slept. The lock is held.
func (s *Stack) arrived(gap int64, slept bool) {
	p := s.policy
	if p == nil {
		return
	}
	s.look()
	if p.arrived(s.now, gap, slept) {
		eager := p.eager
		p.endEpoch(s.now, s.work, processorTime())
		if p.eager != eager {
			_ = s.setSeat() // where it fails nobody sits
		}
	}
	if s.seat != nil && s.seat.spins != p.spins(s.now) {
		_ = s.setSeat() // a time of sharing has ended; where it fails nobody sits
	}
	if b := p.budget(s.now); b != s.spinNow.Load() {
		s.spinNow.Store(b)
	}
}

// processorTime returns what the process has used, ns.
func processorTime() int64 { return processorClock(unix.CLOCK_PROCESS_CPUTIME_ID) }

func processorClock(id int32) int64 {
	var t unix.Timespec
	if unix.ClockGettime(id, &t) != nil {
		return 0
	}
	return t.Nano()
}
