package main

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/onload-go/onload/bench/apps/program"
	"github.com/onload-go/onload/bench/apps/result"
	"github.com/onload-go/onload/bench/load"
)

// Arrivals are as many as the rate says, in order, and the same for a seed.
func TestArrivals(t *testing.T) {
	const rate, total = 1000, 10 * time.Second
	even := arrivals(rate, total, false, 0)
	if n := len(even); n < 9_998 || n > 10_000 {
		t.Errorf("%d even arrivals", n)
	}
	a, b, c := arrivals(rate, total, true, 1), arrivals(rate, total, true, 1), arrivals(rate, total, true, 2)
	// A Poisson number of mean 10,000 has a deviation of 100.
	if n := len(a); n < 9_500 || n > 10_500 {
		t.Errorf("%d random arrivals", n)
	}
	if !slices.Equal(a, b) || slices.Equal(a, c) {
		t.Error("a seed does not give the same, or two do")
	}
	if !slices.IsSorted(a) || a[len(a)-1] >= total {
		t.Error("not in order, or past the end")
	}
}

// Requests that could not leave since others stalled pay for the stall.
func TestOpenLoopCountsFromDue(t *testing.T) {
	const stall = 50 * time.Millisecond
	first := true
	call := func() error {
		if first {
			first = false
			time.Sleep(stall)
		}
		return nil
	}
	due := arrivals(1000, 100*time.Millisecond, false, 0)
	sm, err := runOpenLoop([]program.Call{call}, due, &load.Spec{Duration: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	h, err := hdrhistogram.Decode(sm.Hist)
	if err != nil {
		t.Fatal(err)
	}
	if got := time.Duration(h.Max()); got < stall {
		t.Errorf("the longest took %v", got)
	}
	// Half of those due during the stall waited for half of it.
	slow := h.TotalCount() - countBelow(h, int64(stall)/2)
	if slow < 20 {
		t.Errorf("%d of %d waited for %v", slow, h.TotalCount(), stall/2)
	}
	if sm.Unanswered+h.TotalCount() != int64(len(due)) {
		t.Errorf("%d answered and %d not, of %d", h.TotalCount(), sm.Unanswered, len(due))
	}
}

func countBelow(h *hdrhistogram.Histogram, v int64) (n int64) {
	for _, b := range h.Distribution() {
		if b.To < v {
			n += b.Count
		}
	}
	return n
}

// Requests that are not answered soon after the end are counted.
func TestOpenLoopUnanswered(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	call := func() error { <-release; return nil }
	due := arrivals(1000, 20*time.Millisecond, false, 0)
	sm, err := runOpenLoop([]program.Call{call}, due, &load.Spec{Duration: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if sm.Unanswered != int64(len(due)) || sm.Ops != 0 {
		t.Errorf("%d unanswered, %d answered, of %d", sm.Unanswered, sm.Ops, len(due))
	}
}

// An error ends a load.
func TestCallFails(t *testing.T) {
	broken := errors.New("broken")
	call := func() error { return broken }
	if _, err := runOpenLoop([]program.Call{call}, arrivals(1000, 10*time.Millisecond, false, 0), &load.Spec{Duration: 10 * time.Millisecond}); !errors.Is(err, broken) {
		t.Errorf("open loop: %v", err)
	}
	if _, err := closedLoop([]program.Call{call}, &load.Spec{Duration: time.Minute}); !errors.Is(err, broken) {
		t.Errorf("closed loop: %v", err)
	}
	if err := connect([]program.Call{call}); !errors.Is(err, broken) {
		t.Errorf("connect: %v", err)
	}
}

// However little the kernel could do when its capacity was measured, requests
// arrive while an open loop is measured.
func TestArrivalsOfStarved(t *testing.T) {
	c := result.Cell{Program: "net/http", Condition: result.Free, Load: result.Open10, Conns: capacityConns}
	of := c
	of.Load, of.Conns = result.Closed, capacityConns
	s := &session{runner: &runner{duration: 10 * time.Millisecond}, capacity: map[result.Cell]float64{of: 0.1}}
	k, err := s.kindOf(t.Context(), c, 0)
	if err != nil {
		t.Fatal(err)
	}
	d, warm := s.runner.timesOf(c)
	if n := len(arrivals(k.Rate, warm+d, k.Random, k.Seed)); n < fewest/2 {
		t.Errorf("%d arrivals in %v", n, d)
	}
}
