package tcp

// A packet that the device is to cut is no larger than what leaves in a millisecond
// at the rate that the window allows. So a slow path gets no bursts that it must
// queue. On a short path, where bursts matter little, 64 KiB are added, halved for
// each doubling of the round trip from 512 us on. As Linux (tcp_tso_autosize,
// tcp_update_pacing_rate).
const (
	autosizeRTT = 9        // log2, us
	autosizeGSO = 64 << 10 // bytes
	minTSOSegs  = 2        // Linux's tcp_min_tso_segs
)

// autosize is how large such a packet may be, in bytes of payload.
func (c *Conn) autosize() int {
	far := c.rtt.Min() / 1000 >> autosizeRTT
	if far == 0 {
		return autosizeGSO
	}
	// In slow start the rate counts twice, so that the window can double; later 1.2
	// times, to make up for segments that come late.
	rate := 6 * int64(c.cwnd()) / 5
	if c.cwnd() < int(c.cc.Ssthresh()/2) {
		rate = 2 * int64(c.cwnd())
	}
	n := rate * 1e6 / c.rtt.SRTT()
	if far < 32 {
		n += autosizeGSO >> far
	}
	return max(int(n), c.h.MinTSOSegs*int(c.mss))
}
