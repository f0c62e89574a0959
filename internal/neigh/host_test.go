package neigh

import (
	"bytes"
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long

	"github.com/onload-go/onload/ip"
)

// wire joins hosts in virtual time. A frame arrives at all others at once.
type wire struct {
	now   int64
	ends  []*end
	queue []sentFrame
	sent  int // frames so far
	taps  []func(frame []byte)
}

type sentFrame struct {
	from *end
	b    []byte
}

// end is a Host on a wire, and what it said.
type end struct {
	*Host
	w       *wire
	known   map[netip.Addr][6]byte
	gone    map[netip.Addr]int
	inUse   map[netip.Addr]bool
	state   map[netip.Addr]error // of own addresses
	deaf    bool                 // gets no frames
	sent    [][]byte
	news    int // calls of Neighbor, Gone and InUse
	learnt  Learned
	lessons int          // calls of Learned
	old     []netip.Addr // deprecated addresses
	turns   int          // calls of Deprecated
	visitor [6]byte      // the last one with an address of ours
}

func (e *end) Send(frame []byte) {
	b := bytes.Clone(frame)
	e.sent = append(e.sent, b)
	e.w.queue = append(e.w.queue, sentFrame{e, b})
	e.w.sent++
}
func (e *end) Neighbor(a netip.Addr, mac [6]byte) { e.known[a] = mac; e.news++ }
func (e *end) Gone(a netip.Addr)                  { delete(e.known, a); e.gone[a]++; e.news++ }
func (e *end) InUse(a netip.Addr) bool            { e.news++; return e.inUse[a] }
func (e *end) Address(a netip.Prefix, mac [6]byte, err error) {
	e.state[a.Addr()] = err
	if err != nil {
		e.visitor = mac
	}
}
func (e *end) Removed(a netip.Prefix) {
	delete(e.state, a.Addr())
	e.Deprecated(a.Addr(), false)
}
func (e *end) Learned(l Learned) { e.learnt = l; e.lessons++ }
func (e *end) Deprecated(a netip.Addr, old bool) {
	e.turns++
	e.old = slices.DeleteFunc(e.old, func(o netip.Addr) bool { return o == a })
	if old {
		e.old = append(e.old, a)
	}
}

func mac(n byte) [6]byte { return [6]byte{2, 0, 0, 0, 0, n} }

// join adds a host with these addresses. Those of a quiet one are ours at once.
func (w *wire) join(n byte, quiet bool, addrs ...string) *end {
	return w.joinAs(Config{NoDAD: quiet}, n, addrs...)
}

// joinAs joins a host whose configuration c completes.
func (w *wire) joinAs(c Config, n byte, addrs ...string) *end {
	e := &end{w: w, known: map[netip.Addr][6]byte{}, gone: map[netip.Addr]int{}, inUse: map[netip.Addr]bool{}, state: map[netip.Addr]error{}}
	c.MAC, c.Seed, c.Out = mac(n), [32]byte{n}, e
	for _, a := range addrs {
		c.Addrs = append(c.Addrs, netip.MustParsePrefix(a))
	}
	e.Host = New(c, w.now)
	w.ends = append(w.ends, e)
	w.deliver()
	return e
}

// deliver has all frames arrive.
func (w *wire) deliver() {
	for len(w.queue) > 0 {
		f := w.queue[0]
		w.queue = w.queue[1:]
		for _, tap := range w.taps {
			tap(f.b)
		}
		for _, e := range w.ends {
			if e != f.from && !e.deaf {
				e.Input(f.b, w.now)
			}
		}
	}
}

// run lets time pass.
func (w *wire) run(d time.Duration) {
	for end := w.now + int64(d); ; {
		w.deliver()
		next := int64(math.MaxInt64)
		for _, e := range w.ends {
			next = min(next, e.Next())
		}
		if next > end {
			w.now = end
			return
		}
		w.now = max(next, w.now)
		for _, e := range w.ends {
			e.Advance(w.now)
		}
	}
}

// families are the same two hosts by ARP and by neighbour discovery.
var families = []struct {
	name         string
	a, b         string
	c            string
	addrA, addrB netip.Addr
}{
	{"v4", "10.0.0.1/24", "10.0.0.2/24", "10.0.0.3/24", netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")},
	{"v6", "fd00::1/64", "fd00::2/64", "fd00::3/64", netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")},
}

// TestResolve: a neighbour that is there is found with one question, and learns of
// the asker by it.
func TestResolve(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := new(wire)
			a, b := w.join(1, true, f.a), w.join(2, true, f.b)
			w.run(10 * time.Second) // announcements
			before := w.sent
			a.Resolve(f.addrB, w.now)
			w.deliver()
			if a.known[f.addrB] != mac(2) {
				t.Fatalf("known %v", a.known)
			}
			if len(b.known) != 0 {
				t.Errorf("the neighbour tells of %v unasked", b.known)
			}
			if b.Resolve(f.addrA, w.now); b.known[f.addrA] != mac(1) {
				t.Errorf("the neighbour knows %v", b.known)
			}
			if n := w.sent - before; n != 2 {
				t.Errorf("%d frames, want a question and an answer", n)
			}
		})
	}
}

// TestResolveFails: a neighbour that is not there is asked for three times, a second
// apart, and then reported.
func TestResolveFails(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := new(wire)
			a := w.join(1, true, f.a)
			w.run(10 * time.Second)
			a.sent = nil
			for range 100 { // as many waiting packets
				a.Resolve(f.addrB, w.now)
			}
			w.run(3*time.Second - 1)
			if len(a.sent) != 3 || a.gone[f.addrB] != 0 {
				t.Fatalf("%d questions, %d times gone, before 3 s", len(a.sent), a.gone[f.addrB])
			}
			w.run(time.Minute)
			if len(a.sent) != 3 || a.gone[f.addrB] != 1 {
				t.Errorf("%d questions, %d times gone, after all", len(a.sent), a.gone[f.addrB])
			}
		})
	}
}

// TestUnreachable: a neighbour in use is asked itself once it may have moved; a new
// one at the address is found without a word of its own; one that nobody needs is
// forgotten in silence.
func TestUnreachable(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := new(wire)
			a, b := w.join(1, true, f.a), w.join(2, true, f.b)
			w.run(10 * time.Second)
			a.Resolve(f.addrB, w.now)
			a.inUse[f.addrB] = true
			w.run(10 * time.Minute)
			if a.known[f.addrB] != mac(2) || a.gone[f.addrB] != 0 {
				t.Fatalf("a neighbour that answers is lost: %v, %v", a.known, a.gone)
			}
			// It is replaced, and the new one does not announce itself.
			b.deaf = true
			c := w.join(3, true, f.c)
			w.run(10 * time.Second)
			c.own[0].Prefix = netip.MustParsePrefix(f.b)
			w.run(2 * time.Minute)
			if a.known[f.addrB] != mac(3) || a.gone[f.addrB] != 0 {
				t.Fatalf("the new neighbour is not found: %v, %v", a.known, a.gone)
			}
			c.deaf = true
			w.run(2 * time.Minute)
			if _, ok := a.known[f.addrB]; ok || a.gone[f.addrB] != 1 {
				t.Errorf("known %v, gone %v, though nobody answers", a.known, a.gone)
			}
			c.deaf, a.inUse[f.addrB] = false, false
			a.Resolve(f.addrB, w.now)
			w.run(time.Second)
			sent := len(a.sent)
			w.run(5 * time.Minute)
			if len(a.sent) != sent || len(a.cache) != 0 {
				t.Errorf("%d questions about a neighbour not in use, %d entries stay", len(a.sent)-sent, len(a.cache))
			}
		})
	}
}

// TestConfirm: a neighbour that the upper layers hear of is not asked.
func TestConfirm(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := new(wire)
			a, b := w.join(1, true, f.a), w.join(2, true, f.b)
			w.run(10 * time.Second)
			a.Resolve(f.addrB, w.now)
			w.deliver()
			a.inUse[f.addrB], b.deaf = true, true
			sent := len(a.sent)
			for range 60 {
				w.run(10 * time.Second)
				a.Confirm(f.addrB, w.now)
			}
			if len(a.sent) != sent || a.known[f.addrB] != mac(2) {
				t.Errorf("%d questions, known %v", len(a.sent)-sent, a.known)
			}
		})
	}
}

// TestDoubt: a neighbour of which nothing is heard is asked at once, once in five seconds
// while it answers; if it does not, all are asked, and a new one is found.
func TestDoubt(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := new(wire)
			a, b := w.join(1, true, f.a), w.join(2, true, f.b)
			w.run(10 * time.Second)
			a.Resolve(f.addrB, w.now)
			a.inUse[f.addrB] = true
			w.deliver()
			sent := len(a.sent)
			for range 10_000 { // so many connections
				a.Doubt(f.addrB, w.now)
				w.run(time.Millisecond)
			}
			if n := len(a.sent) - sent; n < 1 || n > 3 {
				t.Errorf("%d questions in 10 s about a neighbour that answers", n)
			}
			// It is replaced in silence.
			b.deaf = true
			c := w.join(3, true, f.c)
			w.run(10 * time.Second)
			c.own[0].Prefix = netip.MustParsePrefix(f.b)
			a.Doubt(f.addrB, w.now)
			w.run(4 * time.Second)
			if a.known[f.addrB] != mac(3) || a.gone[f.addrB] != 0 {
				t.Errorf("the new neighbour is not found: %v, %v", a.known, a.gone)
			}
		})
	}
}

// TestMoved: a neighbour's announcement of another link-layer address is believed at
// once, but not twice in a second.
func TestMoved(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			w := new(wire)
			a, b := w.join(1, true, f.a), w.join(2, true, f.b)
			w.run(10 * time.Second)
			a.Resolve(f.addrB, w.now)
			w.run(5 * time.Second)
			b.deaf = true // it fails, and another takes over
			w.join(4, true, f.b)
			if a.known[f.addrB] != mac(4) {
				t.Fatalf("known %v", a.known)
			}
			w.join(5, true, f.b)
			if a.known[f.addrB] != mac(4) {
				t.Errorf("a second change at once is believed: %v", a.known)
			}
		})
	}
}

// TestNotAsked: announcements of hosts that nobody knows leave nothing behind.
func TestNotAsked(t *testing.T) {
	w := new(wire)
	a := w.join(1, true, "10.0.0.1/24", "fd00::1/64")
	w.join(2, true, "10.0.0.2/24", "fd00::2/64")
	w.run(time.Minute)
	if len(a.cache) != 0 {
		t.Errorf("%d entries", len(a.cache))
	}
}

// ping returns an echo request of size bytes of payload.
func ping(from, to [6]byte, src, dst netip.Addr, size int) []byte {
	proto, typ := uint8(ip.ProtoICMP), byte(8)
	if dst.Is6() {
		proto, typ = ip.ProtoICMPv6, 128
	}
	msg := make([]byte, 8+size)
	msg[0], msg[5], msg[7] = typ, 7, 9
	sum := ip.Sum(msg)
	if dst.Is6() {
		sum = ip.Add(sum, ip.PseudoSum(src, dst, proto, len(msg)))
	}
	msg[2], msg[3] = byte(^sum>>8), byte(^sum)
	var h ip.Header
	h.Init(from, to, 0, src, dst, proto, 0, 64)
	b := make([]byte, h.Len()+len(msg))
	h.Put(b, len(msg), 0, 0)
	copy(b[h.Len():], msg)
	return b
}
