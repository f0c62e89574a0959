package tcp

// newReno is the congestion control of RFC 5681 with byte counting
// (RFC 3465); its recovery (RFC 6582) is that of every connection.
type newReno struct{ windowed }

func (newReno) name() string { return "newreno" }

func (l newReno) law() windowLaw { return l }

func (newReno) start(*Congestion) {}

func (newReno) ack(c *Congestion, s *AckSample) {
	if !s.Limited {
		return
	}
	acked := s.Acked
	if c.InSlowStart() {
		if acked = c.slowStart(s); acked == 0 {
			return
		}
	}
	c.addPerWindow(acked)
}

// reduce is equation 4 of RFC 5681, from cwnd, which never grew beyond what was in
// flight. After a mark it reduces less (ABE, RFC 8511 section 3.1), since the queue
// that set the mark is short.
func (newReno) reduce(c *Congestion, ecn bool) uint32 {
	if ecn {
		return uint32(uint64(c.cwnd) * 4 / 5)
	}
	return c.cwnd / 2
}

func (newReno) expired(*Congestion) {}

func (newReno) resume(*Congestion, int64) {}
