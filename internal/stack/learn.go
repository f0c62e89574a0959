package stack

import "golang.org/x/sys/unix"

// What a sleep costs, in ns: processor time, and latency.
const (
	wakeCPU     = int64(6_000)
	wakeLatency = int64(30_000) // until it is measured
)

// startWaiting makes the parts by which goroutines wait.
func (s *Stack) startWaiting() (err error) {
	if err = s.waits.breath.init(); err != nil {
		return err
	}
	s.openLimits()
	s.makeSeat()
	if err = s.setSeat(); err == nil {
		err = s.startReactor()
	}
	if err != nil {
		s.closeSeat()
		s.waits.breath.close()
		s.waits.limits.watcher.Close()
	}
	return err
}

// arrived tells the policy that a wait ended with a packet, gap ns after it began.
// slept reports whether the goroutine slept. The lock is held.
func (s *Stack) arrived(gap int64, slept bool) {
	p := s.waits.policy
	if p == nil {
		return
	}
	s.look()
	if p.arrived(s.now, gap, slept) {
		eager := p.eager
		p.endEpoch(s.now, s.waits.work, processorTime())
		if p.eager != eager {
			_ = s.setSeat() // if it fails nobody sits
		}
	}
	if s.waits.seat != nil && s.waits.seat.spins != p.spins(s.now) {
		_ = s.setSeat() // a time of sharing has ended; if it fails nobody sits
	}
	if b := p.budget(s.now); b != s.waits.spinNow.Load() {
		s.waits.spinNow.Store(b)
	}
}

// processorTime returns the processor time that the process has used, in ns.
func processorTime() int64 { return processorClock(unix.CLOCK_PROCESS_CPUTIME_ID) }

func processorClock(id int32) int64 {
	var t unix.Timespec
	if unix.ClockGettime(id, &t) != nil {
		return 0
	}
	return t.Nano()
}
