package tcp

// Packets that the device is to cut are no larger than what leaves in a
// millisecond at the rate that the window allows, so that a slow path does not
// get bursts that it must queue; on a short one, where that matters little, half
// the largest for each doubling of the round trip from 512 us on. As Linux
// (tcp_tso_autosize, tcp_update_pacing_rate).
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
	// Twice the rate in slow start, so that the window can double; then 1.2
	// times, for what comes late.
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
