package tcp

import "math"

// HyStart++ (RFC 9406 section 4.3, the values recommended).
const (
	hsMinThresh  = 4_000_000 >> hsTime
	hsMaxThresh  = 16_000_000 >> hsTime
	hsDivisor    = 8
	hsSamples    = 8
	hsCSSDivisor = 4
	hsCSSRounds  = 5

	hsTime = 10 // round trips are kept in units of 1024 ns
)

// hystart leaves the first slow start before it overflows the bottleneck's queue
// (RFC 9406). If the round trip has grown, conservative slow start (CSS) begins,
// and after five rounds of it congestion avoidance.
type hystart struct {
	last, cur uint32 // least RTT of the last and of this round
	base      uint32 // this round's when CSS began; 0: in slow start
	end       uint32
	samples   uint8
	rounds    uint8 // of CSS
	state     uint8
}

const (
	hsOff = iota
	hsBegin
	hsRunning
)

func (h *hystart) start()   { *h = hystart{state: hsBegin} }
func (h *hystart) stop()    { h.state = hsOff }
func (h *hystart) on() bool { return h.state != hsOff }

func (h *hystart) newRound(nxt uint32) {
	h.end = nxt
	h.last, h.cur, h.samples = h.cur, math.MaxUint32, 0
}

// ack returns by how much of grow the window may grow.
func (h *hystart) ack(c *Congestion, s *AckSample, grow uint32) uint32 {
	if h.state == hsBegin {
		h.state = hsRunning
		h.cur = math.MaxUint32
		h.newRound(s.Nxt)
	}
	if s.RTT > 0 {
		h.cur = min(h.cur, uint32(min(s.RTT>>hsTime, math.MaxUint32-1)))
		h.samples = min(h.samples+1, hsSamples)
	}
	enough := h.samples == hsSamples && h.cur != math.MaxUint32
	if h.base == 0 {
		if enough && h.last != math.MaxUint32 {
			thresh := max(hsMinThresh, min(h.last/hsDivisor, hsMaxThresh))
			if h.cur >= h.last+thresh {
				h.base, h.rounds = max(h.cur, 1), 0
			}
		}
	} else {
		grow /= hsCSSDivisor
		if enough && h.cur < h.base {
			h.base = 0 // a false alarm: slow start again
		}
	}
	// A round that ends beyond SND.NXT is from half of the sequence space ago: the
	// application has held data back since.
	if seqGE(s.Una, h.end) || seqGT(h.end, s.Nxt) {
		if h.base != 0 {
			if h.rounds++; h.rounds >= hsCSSRounds {
				c.ssthresh = max(c.cwnd+grow, 2*c.mss)
				h.stop()
			}
		}
		h.newRound(s.Nxt)
	}
	return grow
}
