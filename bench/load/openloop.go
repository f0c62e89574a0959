package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// window is how many requests may be under way. More would only measure the socket
// buffers.
const window = 256

// callOpenLoop sends Rate requests a second by the clock, pipelined on one
// connection, and counts the latency of each from when it should have been
// sent: a server that stalls also pays for the requests that could not leave
// meanwhile (no coordinated omission).
//
// One goroutine sends the requests that are due and then reads, so that no rung
// depends on how the scheduler shares one processor between a sender and a
// reader, nor on timers, which are too coarse.
func callOpenLoop(n Network, s *Spec) (Sample, error) {
	if s.Size < 8 {
		return Sample{}, errors.New("open loop: messages carry 8 bytes at least")
	}
	c, err := n.Dial("tcp", s.Addrs[0])
	if err != nil {
		return Sample{}, err
	}
	defer c.Close()
	clk := NewClock(s)
	begin := clk.begin
	total := int64((s.Warm + s.Duration).Seconds() * float64(s.Rate))
	due := func(i int64) time.Time { return begin.Add(time.Duration(i * int64(time.Second) / int64(s.Rate))) }
	out := make([]byte, 0, window*s.Size)
	in := make([]byte, window*s.Size)
	var dl deadline
	var sent, got int64
	part := 0 // bytes of an answer that is not complete
	// An overloaded rung must not take for ever: requests not answered soon after
	// the end count as never sent, and the report says so.
	over := clk.to.Add(s.Duration / 2)
	for got < total {
		now := time.Now()
		if now.After(over) {
			break
		}
		out = out[:0]
		for sent < total && sent-got < window && !now.Before(due(sent)) {
			out = append(out, make([]byte, s.Size)...)
			binary.BigEndian.PutUint64(out[len(out)-s.Size:], uint64(sent))
			sent++
		}
		if err := dl.extend(now, hung, c.SetDeadline); err != nil {
			return Sample{}, err
		}
		if len(out) > 0 {
			if _, err := c.Write(out); err != nil {
				return Sample{}, fmt.Errorf("write after %d requests: %w", sent, err)
			}
		}
		if sent == got {
			continue // spin until the next is due
		}
		k, err := c.Read(in[part:])
		now = time.Now()
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) || err == io.EOF {
				return Sample{}, fmt.Errorf("%d requests sent, %d answered: %w", sent, got, err)
			}
			return Sample{}, err
		}
		part += k
		off := 0
		for ; part-off >= s.Size; off += s.Size {
			if id := int64(binary.BigEndian.Uint64(in[off:])); id != got {
				return Sample{}, fmt.Errorf("answer %d where %d was due", id, got)
			}
			clk.Op(due(got), now)
			got++
		}
		part = copy(in, in[off:part])
	}
	sm, err := clk.Sample()
	sm.Unsent = total - got
	sm.Path, sm.Counters = n.Path(c), n.Counters()
	return sm, err
}
