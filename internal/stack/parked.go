package stack

import (
	"slices"
	"syscall"
	"time"

	"github.com/onload-go/onload/ring"
)

// parkedPacket waits for its neighbour's address. The stack holds its frames
// as if they were in a ring.
type parkedPacket struct {
	pkt []ring.Desc
	qi  int
	ecn uint8
}

const (
	// parkedMost is how many packets wait for a neighbour: as many small ones as
	// Linux keeps (unres_qlen_bytes), or the SYNs of a burst of connections.
	parkedMost = 256
	// resolveMost is when waiting packets are dropped, in ns. The kernel gives a
	// neighbour up after 3 s, but does not say so where it is asked for too many.
	resolveMost = int64(5 * time.Second)
)

// park keeps a packet until d's neighbour is known, and reports whether it did. As
// in the kernel, only the newest few are kept. All parked packets together have at
// most limit frames, so that most of the memory is left to others.
func (t *dests) park(d *dst, p parkedPacket, limit int, now int64) bool {
	if d.gone {
		return false
	}
	limit -= len(p.pkt)
	for len(d.parked) > 0 && (len(d.parked) == parkedMost || t.parked > limit) {
		t.unpark(&d.parked[0])
		t.unresolved++
		d.parked = append(d.parked[:0], d.parked[1:]...)
	}
	if t.parked > limit {
		return false
	}
	if len(d.parked) == 0 {
		d.since = now
	}
	t.parked += len(p.pkt)
	p.pkt = slices.Clone(p.pkt)
	for _, ds := range p.pkt {
		t.arena.Posted(ds.Frame)
	}
	d.parked = append(d.parked, p)
	return true
}

// unpark gives the frames of a parked packet back.
func (t *dests) unpark(p *parkedPacket) {
	t.parked -= len(p.pkt)
	for _, ds := range p.pkt {
		t.arena.Completed(ds.Frame)
	}
}

// drop frees the packets that wait for d.
func (t *dests) drop(d *dst) {
	t.unresolved += uint64(len(d.parked))
	for i := range d.parked {
		t.unpark(&d.parked[i])
	}
	d.parked = nil
	t.forget(d)
}

// parkedFrames is how many frames the packets that wait may have.
func (s *Stack) parkedFrames() int { return s.host.Reserve / s.cfg.stacks() }

// sendLater parks a packet for d, whose headers are not complete, or sends it
// by the detour. false: the kernel's buffer is full, and pkt is as it was.
func (s *Stack) sendLater(d *dst, qi int, pkt []ring.Desc, ecn uint8) bool {
	if d.detour {
		return s.dests.detour.send(s, d, pkt, ecn, false)
	}
	if !s.dests.park(d, parkedPacket{pkt, qi, ecn}, s.parkedFrames(), s.now) {
		s.counters.txNoRoute.Add(1)
		return true
	}
	s.setTimer(&s.dests.timer, s.now+resolveMost)
	s.resolve(d)
	return true
}

// resolve has d's neighbour found, and sends the packets that waited for it.
func (s *Stack) resolve(d *dst) {
	s.dests.resolveNeighbour(d, s.now)
	s.sendParked(d)
}

// sendParked sends the packets that waited for d, if d is ready.
func (s *Stack) sendParked(d *dst) {
	if !d.ready && !d.detour {
		return
	}
	parked := d.parked
	d.parked = nil
	for i := range parked {
		p := &parked[i]
		s.sendAny(d, p.qi, p.pkt, p.ecn)
		s.dests.unpark(p)
	}
	s.dests.forget(d)
}

// fireParked frees packets that have waited for too long.
func (s *Stack) fireParked() {
	for _, d := range s.dests.all {
		if len(d.parked) > 0 && s.now-d.since >= resolveMost {
			s.unreachable(d, syscall.EHOSTUNREACH)
		}
	}
	s.tell()
	if s.dests.parked > 0 {
		s.setTimer(&s.dests.timer, s.now+resolveMost)
	}
}
