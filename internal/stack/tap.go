package stack

import (
	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/ring"
)

// tapped is a queue whose packets taps record.
type tapped struct {
	driver.Queue
	at   *driver.TapPoint
	taps []driver.Tap
}

// RxBatch implements driver.Queue.
func (q *tapped) RxBatch(ds []ring.Desc) int {
	n := q.Queue.RxBatch(ds)
	if n > 0 {
		for _, t := range q.taps {
			t.Received(q.at, ds[:n])
		}
	}
	return n
}

// TxBatch implements driver.Queue.
func (q *tapped) TxBatch(ds []ring.Desc) int {
	n := q.Queue.TxBatch(ds)
	if n > 0 {
		for _, t := range q.taps {
			t.Sent(q.at, ds[:n])
		}
	}
	return n
}

// SetTaps has taps record every packet that passes through the queues in at, in the
// place of the taps before; none: nothing is recorded. Queues that are not in at, also
// those that come later, are not recorded.
func (s *Stack) SetTaps(at map[driver.Queue]*driver.TapPoint, taps []driver.Tap) {
	s.begin()
	defer s.end()
	if len(taps) == 0 {
		s.wire, s.taps = s.queues, nil
		return
	}
	wire := make([]driver.Queue, len(s.queues))
	for i, q := range s.queues {
		wire[i] = q
		if p := at[q]; p != nil {
			wire[i] = &tapped{Queue: q, at: p, taps: taps}
		}
	}
	s.wire, s.taps = wire, taps
}

// inputTapped is input while taps record: it tells them why packets were dropped. A
// packet was dropped if a counter of drops has moved while the stack looked at it. So
// nothing is asked for each packet while there is no tap.
func (s *Stack) inputTapped(qi int, ds []ring.Desc) {
	was := s.drops()
	for at := 0; at < len(ds); {
		n, _ := ring.PacketLen(ds[at:])
		f := ds[at].Frame
		s.input(qi, ds[at:at+n])
		at += n
		now := s.drops()
		if why := now.why(&was); why != "" {
			for _, t := range s.taps {
				t.Dropped(f, why)
			}
		}
		was = now
	}
	for _, t := range s.taps {
		t.Done()
	}
}
