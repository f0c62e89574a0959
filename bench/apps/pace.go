package main

import (
	"math/rand/v2"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// pacer sleeps until a moment comes, on a timerfd. Go's own timers wake an
// idle process up to a millisecond late: its epoll_wait counts in those.
type pacer struct {
	fd int
	f  *os.File
}

func newPacer() (*pacer, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("timerfd_create", err)
	}
	return &pacer{fd, os.NewFile(uintptr(fd), "timerfd")}, nil
}

func (p *pacer) close() { p.f.Close() }

// until sleeps until t and returns when it woke.
func (p *pacer) until(t time.Time) (time.Time, error) {
	now := time.Now()
	d := t.Sub(now)
	if d <= 0 {
		return now, nil
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	if err := unix.TimerfdSettime(p.fd, 0, &spec, nil); err != nil {
		return now, os.NewSyscallError("timerfd_settime", err)
	}
	var b [8]byte
	_, err := p.f.Read(b[:])
	return time.Now(), err
}

// arrivals are when requests are due, after the start: rate of them a second
// for a time, evenly or at random (Poisson). The same seed gives the same.
func arrivals(rate float64, total time.Duration, random bool, seed uint64) (l []time.Duration) {
	r := rand.New(rand.NewPCG(seed, 0))
	gap := float64(time.Second) / rate
	for t := gap; t < float64(total); {
		l = append(l, time.Duration(t))
		if random {
			t += gap * r.ExpFloat64()
		} else {
			t += gap
		}
	}
	return l
}
