package tcp

import (
	"math/rand/v2"
	"testing"
)

// FuzzScoreboard compares the scoreboard with a model: what the peer
// acknowledged and, frame by frame, what it SACKed as a whole. Blocks may lie
// anywhere, time passes, retransmissions leave or are refused. Ops are of four
// bytes: what, where, how much, and detail.
func FuzzScoreboard(f *testing.F) {
	f.Add([]byte{0, 10, 3, 0, 0, 20, 4, 1, 1, 5, 0, 0, 0, 8, 2, 0}, uint8(0))
	f.Add([]byte{2, 9, 9, 9, 0, 3, 1, 0, 3, 100, 0, 0, 1, 2, 0, 0}, uint8(1))
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 7))
		b := make([]byte, 400)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		f.Add(b, uint8(seed))
	}
	f.Fuzz(func(t *testing.T, ops []byte, mode uint8) {
		w := dial(t, Config{SndBuf: 1 << 20, RcvBuf: 1 << 20, NoDelay: true, NoTimestamps: mode&1 != 0},
			tsOK(mode&1 == 0))
		w.c.cc.SetCwnd(1 << 20)
		w.c.sndWnd, w.c.maxWnd = 1<<20, 1<<20
		rng := rand.New(rand.NewPCG(uint64(mode), 3))
		m := model{w: w, ends: []uint32{1}}
		for range 60 {
			m.write(1 + rng.IntN(1000))
		}
		for len(ops) >= 4 && len(w.out) < 5000 {
			op, at, n, x := ops[0], int(ops[1]), int(ops[2]), ops[3]
			ops = ops[4:]
			switch op % 8 {
			case 0, 1, 2, 3:
				w.now += int64(x) * ms / 16
				m.sack(at, n%16, int(x%3), op&16 != 0, op&32 != 0)
			case 4:
				m.ack(at % 8)
			case 5:
				w.advance(int64(at) * 2 * ms)
			case 6:
				w.full = !w.full
			case 7:
				m.write(1 + n*4)
			}
			m.compare(t)
			if w.c.State() != Established {
				break // it timed out
			}
		}
		w.out = nil
	})
}

// model is what FuzzScoreboard expects. Frame i is [ends[i], ends[i+1]).
type model struct {
	w      *wire
	ends   []uint32
	una    int // first frame not acknowledged
	sacked [1 << 16]bool
}

func (m *model) write(n int) {
	if len(m.ends) > 1000 {
		return
	}
	unsent := m.w.c.sndNxt-m.w.iss != m.ends[len(m.ends)-1]
	if unsent {
		return // it would be merged with what waits
	}
	m.w.write(n)
	m.w.c.sndWnd = 1 << 20
	// Frames hold no more than a segment.
	for end := m.ends[len(m.ends)-1]; n > 0; {
		k := min(n, int(m.w.c.mss))
		end, n = end+uint32(k), n-k
		m.ends = append(m.ends, end)
	}
}

// sent is the number of frames that were sent.
func (m *model) sent() int {
	i := len(m.ends) - 1
	for ; i > 0 && m.ends[i] > m.w.c.sndNxt-m.w.iss; i-- {
	}
	return i
}

// sack reports n+1 frames from the one at on, cut at both ends, or from below;
// with a second block where more.
func (m *model) sack(at, n, cut int, more, below bool) {
	sent := m.sent()
	lo := m.una + at
	if below {
		lo = max(m.una-1-at%8, 0)
	}
	hi := min(lo+n+1, sent)
	if lo >= hi {
		return
	}
	start, end := m.ends[lo]+uint32(cut), m.ends[hi]-uint32(cut)
	if start >= end {
		return
	}
	ack := m.ends[m.una]
	edges := []uint32{start, end}
	if more && hi+1 < sent {
		edges = append(edges, m.ends[hi+1], m.ends[sent])
	}
	m.note(edges, ack)
	m.w.feed("A", 1, ack, 0, wnd(65535), m.w.sack(edges...))
	m.w.c.sndWnd = 1 << 20
}

// note marks what blocks cover, as RFC 2018 and 2883 read them.
func (m *model) note(edges []uint32, ack uint32) {
	for i := 0; i < len(edges); i += 2 {
		s, e := edges[i], edges[i+1]
		inner := len(edges) > 2 && i == 0 && s >= edges[2] && e <= edges[3]
		if s <= ack || inner {
			continue // DSACK, or nonsense
		}
		for j := m.una; j+1 < len(m.ends); j++ {
			if m.ends[j] >= s && m.ends[j+1] <= e {
				m.sacked[j] = true
			}
		}
	}
}

// ack acknowledges n frames more.
func (m *model) ack(n int) {
	m.una = min(m.una+n, m.sent())
	m.w.now += ms
	m.w.feed("A", 1, m.ends[m.una], 0, wnd(65535))
	m.w.c.sndWnd = 1 << 20
}

func (m *model) compare(t *testing.T) {
	t.Helper()
	c := &m.w.c
	if c.sndUna != m.w.iss+m.ends[m.una] {
		t.Fatalf("SND.UNA %d, want %d", c.sndUna-m.w.iss, m.ends[m.una])
	}
	var want uint32
	for i := m.una; i+1 < len(m.ends); i++ {
		if m.sacked[i] {
			want += m.ends[i+1] - m.ends[i]
		}
	}
	if c.sacked == 0 && want != 0 && m.w.h.Stats.TCPSACKReneging > 0 {
		// The head of the queue was SACKed and not acknowledged: at a timeout
		// nothing of it is believed any more (RFC 2018 section 8).
		clear(m.sacked[:])
		m.w.h.Stats.TCPSACKReneging = 0
		return
	}
	if c.sacked != want {
		t.Fatalf("%d bytes SACKed, want %d", c.sacked, want)
	}
}
