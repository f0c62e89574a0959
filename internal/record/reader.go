package record

import (
	"errors"
	"math"
	"slices"
	"sync"
	"sync/atomic"
)

// Packet is a recorded packet.
type Packet struct {
	Data   []byte // as much as was kept; valid until the next call
	Length int    // bytes
	Time   int64  // of receipt or transmission: Unix time, ns
	Out    bool
	Link   int    // number of the interface
	Name   string // of the interface
	Queue  int    // of the interface
	Why    string // it was dropped; empty: it was not
}

// Reader reads rings, in the order of time. Add and Lost are for anybody, all else is for
// one goroutine.
type Reader struct {
	mu    sync.Mutex
	rings atomic.Pointer[[]*source] // a list does not change
	tmp   []byte
}

func (r *Reader) all() []*source {
	if p := r.rings.Load(); p != nil {
		return *p
	}
	return nil
}

// source is a ring that is read.
type source struct {
	m       memory
	of      string // in front of the names of interfaces
	names   map[int]string
	reasons map[uint16]string
	at      uint64
	head    head // of the record at at, if there is one
	there   bool
	broken  bool
}

// Add has the Reader read mem too, once a Tap writes there. of is put in front of the
// names of its interfaces. false: mem has no size of a ring.
func (r *Reader) Add(mem []byte, of string) bool {
	m, ok := over(mem)
	if ok {
		r.mu.Lock()
		defer r.mu.Unlock()
		more := append(slices.Clone(r.all()), &source{m: m, of: of, names: map[int]string{}, reasons: map[uint16]string{}, at: m.head.Load()})
		r.rings.Store(&more)
	}
	return ok
}

// Lost is how many packets found a ring full.
func (r *Reader) Lost() (n uint64) {
	for _, s := range r.all() {
		n += s.m.lost.Load()
	}
	return n
}

// Err says that a ring makes no sense, and is read no more.
func (r *Reader) Err() error {
	for _, s := range r.all() {
		if s.broken {
			return errBroken
		}
	}
	return nil
}

var errBroken = errors.New("the ring of recorded packets makes no sense")

// Names are those of the interfaces that are known, each once, in order.
func (r *Reader) Names() (names []string) {
	for _, s := range r.all() {
		if s.m.magic.Load() != magic {
			continue
		}
		s.peek()
		for _, name := range s.names {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// All is a horizon behind everything.
const All = math.MaxInt64

// Next returns the oldest packet. ok is false where there is none that is older than
// horizon. Where several rings are written, packets come in the order of time only if
// the horizon lies so far back that nobody writes such an old packet any more.
func (r *Reader) Next(horizon int64) (p Packet, ok bool) {
	var first *source
	several := 0
	for _, s := range r.all() {
		if s.m.magic.Load() != magic {
			continue
		}
		several++
		if s.peek() && (first == nil || s.time() < first.time()) {
			first = s
		}
	}
	if first == nil || several > 1 && first.time() > horizon {
		return p, false
	}
	return r.take(first), true
}

func (s *source) time() int64 { return int64(s.head.get64(atTime)) }

// peek looks for a packet, and reads the definitions in front of it.
func (s *source) peek() bool {
	for !s.there && !s.broken {
		tail := s.m.tail.Load()
		if s.at == tail {
			return false
		}
		s.m.get(s.at, s.head[:])
		size, kept := uint64(s.head.get32(atSize)), uint64(s.head.get32(atKept))
		if size < recordSize+kept || size > tail-s.at || size&7 != 0 {
			s.broken = true // the writer is not what it says
			return false
		}
		switch {
		case s.head[atKind] == kindPacket && s.head[atFlags]&flagSkip == 0:
			s.there = true
		case s.head[atKind] == kindInterface:
			s.names[int(s.head.get16(atLink))] = s.of + s.text(kept)
			s.drop()
		case s.head[atKind] == kindReason:
			s.reasons[s.head.get16(atReason)] = s.text(kept)
			s.drop()
		default:
			s.drop()
		}
	}
	return s.there
}

func (s *source) text(n uint64) string {
	b := make([]byte, n)
	s.m.get(s.at+recordSize, b)
	return string(b)
}

// reason returns the text of a reason. Its definition may be behind the packet.
func (s *source) reason(n uint16) string {
	if why, ok := s.reasons[n]; ok || n == 0 {
		return why
	}
	var h head
	for at, tail := s.at, s.m.tail.Load(); at != tail; {
		s.m.get(at, h[:])
		size, kept := uint64(h.get32(atSize)), uint64(h.get32(atKept))
		if size < recordSize+kept || size > tail-at {
			break
		}
		if h[atKind] == kindReason && h.get16(atReason) == n {
			b := make([]byte, kept)
			s.m.get(at+recordSize, b)
			s.reasons[n] = string(b)
			break
		}
		at += size
	}
	return s.reasons[n]
}

// drop gives the place of the record back.
func (s *source) drop() {
	s.at += uint64(s.head.get32(atSize))
	s.m.head.Store(s.at)
	s.there = false
}

func (r *Reader) take(s *source) Packet {
	h := &s.head
	n := int(h.get32(atKept))
	if cap(r.tmp) < n {
		r.tmp = make([]byte, n)
	}
	p := Packet{
		Data: r.tmp[:n], Length: int(h.get32(atLength)), Time: s.time(), Out: h[atFlags]&flagOut != 0,
		Link: int(h.get16(atLink)), Queue: int(h.get16(atQueue)),
	}
	p.Name, p.Why = s.names[p.Link], s.reason(h.get16(atReason))
	s.m.get(s.at+recordSize, p.Data)
	s.drop()
	return p
}
