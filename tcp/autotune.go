package tcp

// A buffer whose size nobody set begins with DefaultBuf, and grows where the path
// is so long that the buffer holds back the stream. The receive buffer grows by
// what the reader takes in a round trip (dynamic right-sizing, as Linux's
// tcp_rcv_space_adjust), the send buffer by cwnd (tcp_sndbuf_expand). Unlike
// Linux's, both use the least RTT: data that waits in queues, ours included, needs
// no buffer.

// tuneRTT is the least RTT, in ns, of a path on which a buffer may grow. DefaultBuf
// in each millisecond is 8 Gbit/s already.
const tuneRTT = 1e6

// tuning is what growing the receive buffer needs. A connection gets one when its
// window has become as large as the buffer.
type tuning struct {
	at     int64  // begin of the round
	copied uint64 // bytes that the reader had taken then
	last   uint64 // most that it took in a round
	echo   int64  // least RTT by echoed timestamps, ns
}

// mostBuf is the size to which a buffer grows: a quarter of what the arena holds
// in full segments, 6 MiB at most (Linux's tcp_rmem).
func (c *Conn) mostBuf() int { return c.mostOf(6 << 20) }

func (c *Conn) mostOf(n int) int { return min(n, c.h.Arena.Frames()/4*int(c.chunk.Load())) }

// mostRcv is mostBuf for the receive buffer. The window's scale shows whether
// Config.MaxRcvBuf asked for more.
func (c *Conn) mostRcv() int {
	if c.rcvWS > defaultScale {
		return c.mostOf(0xffff << c.rcvWS)
	}
	return c.mostBuf()
}

// tuneRcv lets the receive buffer grow. s is data that came in order.
func (c *Conn) tuneRcv(s *Segment, now int64) {
	t := c.rare.tune
	_, unread := c.rcvUsed.load()
	copied := c.received - uint64(unread)
	if t == nil {
		c.makeRare().tune = &tuning{at: now, copied: copied}
		return
	}
	rtt := c.rtt.Min()
	if rtt == 0 {
		// Nothing of ours was ever timed.
		if c.has(markTS) && s.Opt.HasTS && s.Opt.TSEcr != 0 && s.Len >= int(c.rcvMSS) {
			if d := int64(int32(c.timestamp(now)-s.Opt.TSEcr)) * 1e6; d >= 0 && (t.echo == 0 || d < t.echo) {
				t.echo = max(d, 1)
			}
		}
		rtt = t.echo
	}
	if rtt < tuneRTT || now-t.at < rtt {
		return
	}
	took := copied - t.copied
	if now-t.at < 2*rtt && took > t.last {
		// Twice that, so that a sender in slow start meets no edge.
		want := 2*took + 16*uint64(c.rcvMSS)
		if n := min(want, uint64(c.mostRcv())); n > uint64(c.rcvLimit.Load()) {
			c.rcvLimit.Store(uint32(n))
		}
		t.last = took
	}
	t.at, t.copied = now, copied
}

// tuneSnd lets the send buffer grow if a writer waits for room although all that it
// wrote is in flight, and the windows would take more.
func (c *Conn) tuneSnd() {
	flight, rtt := c.sndNxt-c.sndUna, c.rtt.SRTT()
	if c.has(markSndFixed) || c.rtt.Min() < tuneRTT || rtt <= 0 || flight >= c.sndWnd ||
		c.h.Arena.FreeFrames() < 3*c.h.Reserve {
		return
	}
	want := int(2 * int64(c.cwnd()) * c.rtt.Min() / max(rtt, c.rtt.Min()))
	if n := min(want, c.mostBuf()); n > int(c.sndLimit.Load()) {
		c.sndLimit.Store(uint32(n))
	}
}
