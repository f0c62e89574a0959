package main

import (
	"time"

	"github.com/onload-go/onload/bench/apps/program"
	"github.com/onload-go/onload/bench/apps/result"
	"github.com/onload-go/onload/bench/load"
)

// kind is how a client asks.
type kind struct {
	Rate   float64 // requests a second; 0: whenever there was an answer
	Random bool    // Poisson arrivals
	Seed   uint64
	Idle   bool // not at all
}

// drive runs the load and calls ended when the measurement is over.
func (k *kind) drive(calls []program.Call, s *load.Spec, ended func()) (*result.Sample, error) {
	switch {
	case k.Idle:
		time.Sleep(s.Warm + s.Duration)
		ended()
		return &result.Sample{Seconds: s.Duration.Seconds()}, nil
	case k.Rate > 0:
		over := make(chan struct{})
		time.AfterFunc(s.Warm+s.Duration, func() { ended(); close(over) })
		sm, err := runOpenLoop(calls, arrivals(k.Rate, s.Warm+s.Duration, k.Random, k.Seed), s)
		<-over
		return sm, err
	}
	sm, err := closedLoop(calls, s)
	ended()
	return &result.Sample{Ops: sm.Ops, Seconds: sm.Seconds, Hist: sm.Hist}, err
}
