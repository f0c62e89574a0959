package processors

import (
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

const (
	wakeBudget  = 4 * time.Millisecond
	wakeSamples = 15
	// asleepAfter is longer than the runtime looks for other work before it
	// parks a thread, some 50 us.
	asleepAfter = 150 * time.Microsecond
)

// WakeCost measures the time from an interrupt to the running of a goroutine
// that is parked in the runtime's netpoller, as a packet finds one: the
// processor leaves its idle state, the thread returns from epoll_wait(2), the
// goroutine is scheduled. It sleeps through 3 ms, 4 ms at most on an idle
// machine, and returns the median of up to 15 wake-ups. Where the processors
// are busy, waiting for one is part of the cost.
//
// The interrupt is a timerfd's, and the time counts from when it was due. So
// it needs no second processor, and nobody spins. The signal from another
// processor is not in it; a packet pays that too when its interrupt, or over
// veth its sender, is elsewhere. An eventfd written by a goroutine that spins
// is no better event: the kernel wakes the sleeper on the writer's processor
// as often as on an idle one, and the figures are 4 us or 25 by chance.
//
// A Wake keeps the cost current.
func WakeCost() (time.Duration, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return 0, os.NewSyscallError("timerfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "timerfd") // nonblocking: Read waits in the netpoller
	defer f.Close()
	var expirations [8]byte
	samples := make([]time.Duration, 0, wakeSamples)
	// A machine that stalls may spend the budget before the first sample.
	for start := time.Now(); len(samples) == 0 || len(samples) < wakeSamples && time.Since(start) < wakeBudget; {
		due := monotonic() + int64(asleepAfter)
		timer := unix.ItimerSpec{Value: unix.NsecToTimespec(due)}
		if err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME, &timer, nil); err != nil {
			return 0, os.NewSyscallError("timerfd_settime", err)
		}
		if _, err := f.Read(expirations[:]); err != nil {
			return 0, err
		}
		samples = append(samples, time.Duration(monotonic()-due))
	}
	slices.Sort(samples)
	return samples[len(samples)/2], nil
}

// monotonic reads the clock that the timer goes by, in nanoseconds.
func monotonic() int64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // it fails for unknown clocks only
	return ts.Nano()
}
