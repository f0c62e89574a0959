package tcp

import (
	"encoding/binary"
	"net/netip"
	"testing"
)

// inconsistent says what is wrong with the queue's own links.
func (q *synQueue) inconsistent() string {
	chained, listed := 0, 0
	for b := range q.buckets {
		for i := q.buckets[b]; i != 0; i = q.slab[i].chain {
			e := &q.slab[i]
			if j, _ := q.find(e.ends()); j != i {
				return "an entry is not found, or twice there"
			}
			if chained++; chained > q.n {
				return "a chain is too long"
			}
		}
	}
	for r := range q.lists {
		prev := uint32(0)
		for i := q.lists[r].head; i != 0; i = q.slab[i].next {
			e := &q.slab[i]
			if e.prev != prev || int(e.retries) != r {
				return "a list is not well linked"
			}
			if prev != 0 && q.slab[prev].deadline > e.deadline {
				return "a list is out of order"
			}
			prev = i
			if listed++; listed > q.n {
				return "a list is too long"
			}
		}
		if q.lists[r].tail != prev {
			return "a list has another tail"
		}
	}
	if chained != q.n || listed != q.n {
		return "entries are lost"
	}
	return ""
}

// FuzzListener lets a hostile peer send whatever it likes, from a few
// addresses, with what it saw of our answers at hand.
func FuzzListener(f *testing.F) {
	syn := []byte{0, byte(FlagSYN), 0, 0, 0, 0, 0, 0, 0, 0}
	ack := []byte{0, byte(FlagACK), 1, 1, 0, 3, 0, 0, 0, 0}
	f.Add(append(append([]byte{}, syn...), ack...))
	f.Add([]byte{0x81, byte(FlagSYN), 0, 0, 0, 0, 0, 0, 0, 0, 0x42, byte(FlagRST), 1, 1, 0, 0, 0, 0, 0, 0})
	var many []byte
	for n := range byte(12) {
		s := append([]byte{}, syn...)
		s[0] = n
		many = append(many, s...)
	}
	f.Add(append(many, ack...))
	fast := append([]byte{}, syn...)
	fast[3], fast[5] = 4, 9
	f.Add(append(append(fast, 0, byte(FlagRST), 10, 4, 0, 0, 0, 0, 0, 0), fast...))
	f.Fuzz(func(t *testing.T, in []byte) {
		const backlog, fast = 4, 2
		b := newBench(t, backlog, Config{FastOpen: fast})
		var last [16]Segment // our last answer to each peer
		for len(in) >= 10 && len(b.conns) < 64 {
			op, fl, seq, mode := in[0], Flags(in[1]), in[2], in[3]
			size, data := int(in[4]>>4), int(in[5])
			wait := int64(binary.BigEndian.Uint16(in[6:]))
			peer := op & 15
			s := Segment{
				Local: testLocal, Remote: netip.AddrPortFrom(testRemote.Addr(), 1000+uint16(peer)),
				Seq: 1000 + uint32(seq), Ack: uint32(mode), Flags: fl, Wnd: uint16(in[8]) << 8,
			}
			if mode&1 != 0 {
				s.Ack = last[peer].Seq + 1 + uint32(mode>>6)
			}
			if len(in) < 10+size {
				return
			}
			s.Opt.Parse(in[10:10+size], fl.Has(FlagSYN))
			if mode&2 != 0 {
				s.Opt.HasTS, s.Opt.TSVal, s.Opt.TSEcr = true, uint32(seq), last[peer].Opt.TSVal
			}
			if mode&4 != 0 && fl.Has(FlagSYN) {
				p := Pair{s.Local.Addr(), s.Remote.Addr()}
				s.Opt.FastOpen, s.Opt.FastOpenCookie = fastOpenOurs, b.h.fastOpenCookie(&p, period(b.now)-uint32(mode>>3&1))
			}
			in = in[10+size:]
			b.now += wait * 1e6
			b.stuck = op&0x40 != 0
			b.refuse = op&0x20 != 0
			if op&0x10 != 0 && b.l.Pending() > 0 {
				b.l.Taken(b.accepted[len(b.accepted)-b.l.Pending()])
			}
			if c := b.conns[[2]netip.AddrPort{s.Local, s.Remote}]; c != nil && c.rare.fo != nil {
				b.in2(c, s, string(make([]byte, data)))
				c.Output(b.now)
			} else {
				b.in(s, string(make([]byte, data)))
			}
			half := 0
			for _, c := range b.conns {
				if c.rare.fo != nil {
					half++
				}
			}
			if q := &b.l.fast; q.pending != half || q.pending+len(q.resets) > fast {
				t.Fatalf("%d half-open by Fast Open, %d counted, %d resets", half, q.pending, len(q.resets))
			}
			if len(b.sent) > 1 {
				t.Fatalf("%d answers to one segment", len(b.sent))
			}
			if s.Flags.Has(FlagRST) && len(b.sent) > 0 && b.sent[0].Flags != FlagACK {
				t.Fatalf("a reset was answered by %v", b.sent[0].Flags)
			}
			for _, r := range b.sent {
				last[peer] = r
			}
			if op&0x80 != 0 && b.l.Deadline() <= b.now {
				b.sent = nil
				b.l.Expire(b.now)
				if b.l.Embryonic() <= expireBatch && b.l.Deadline() <= b.now {
					t.Fatal("Expire left something due")
				}
			}
			if b.l.Embryonic() > backlog || b.l.Pending() > backlog+1 {
				t.Fatalf("%d entries, %d pending", b.l.Embryonic(), b.l.Pending())
			}
			if what := b.l.queue.inconsistent(); what != "" {
				t.Fatal(what)
			}
		}
		b.l.Close(b.now)
		if b.l.Embryonic() != 0 {
			t.Fatal("entries left after Close")
		}
	})
}

// FuzzTimeWait: a TIME-WAIT ends by time alone, or by a SYN.
func FuzzTimeWait(f *testing.F) {
	f.Add(uint8(FlagSYN), uint32(5001), uint32(900), uint32(101), true, true)
	f.Add(uint8(FlagFIN|FlagACK), uint32(4999), uint32(900), uint32(100), true, false)
	f.Fuzz(func(t *testing.T, fl uint8, seq, ack, ts uint32, negotiated, has bool) {
		h := &Host{}
		tw := TimeWait{sndNxt: 900, rcvNxt: 5000, tsRecent: 100, ts: negotiated, deadline: 7}
		// Without payload, Input needs nothing of the host but its counters.
		s := Segment{Seq: seq, Ack: ack, Flags: Flags(fl), Opt: Options{HasTS: has, TSVal: ts}}
		act := tw.judge(h, &s, 1)
		if act == TWReopen && (s.Flags&(FlagSYN|FlagRST|FlagACK|FlagFIN) != FlagSYN || negotiated && has && seqLT(ts, 100)) {
			t.Fatalf("reopened by %v", s.Flags)
		}
		if s.Flags.Has(FlagRST) && act != TWDrop {
			t.Fatalf("a reset was answered: %d", act)
		}
		if tw.deadline < 7 || tw.sndNxt != 900 || tw.rcvNxt != 5000 || tw.tsRecent != 100 {
			t.Fatalf("changed to %+v", tw)
		}
	})
}
