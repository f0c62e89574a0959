package stack

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/onload-go/onload/tcp"
)

type item struct{ key, hash uint64 }

func newItems() table[item] { return newTable(func(i *item) uint64 { return i.hash }) }

func (t *table[T]) groups() int { return len(t.cur) + len(t.old) }

// A table holds what a map would, while it grows, shrinks and is moved, also
// where hashes collide.
func TestTableModel(t *testing.T) {
	hashes := map[string]func(uint64) uint64{
		"spread":  func(k uint64) uint64 { return k * 0x9e3779b97f4a7c15 },
		"tags":    func(k uint64) uint64 { return k * 0x9e3779b97f4a7c15 &^ 0x7f },
		"groups":  func(k uint64) uint64 { return k * 0x9e3779b97f4a7c15 >> 12 },
		"one":     func(uint64) uint64 { return 7 },
		"counted": func(k uint64) uint64 { return k },
	}
	for name, hash := range hashes {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(1, 2))
			tab, model := newItems(), map[uint64]*item{}
			steps := 60000
			if name == "one" {
				steps = 6000
			}
			most := 0
			for i := range steps {
				// Tides: now more come, now more go.
				keys := uint64(1 + steps/16)
				k := r.Uint64N(keys)
				if come := i / (steps / 6) % 2; r.IntN(4) > come*2 {
					if model[k] == nil {
						x := &item{k, hash(k)}
						model[k] = x
						tab.add(x)
					}
				} else if x := model[k]; x != nil {
					if !tab.remove(x) {
						t.Fatalf("step %d: %d is not there", i, k)
					}
					delete(model, k)
				} else if tab.remove(&item{k, hash(k)}) {
					t.Fatalf("step %d: %d was there", i, k)
				}
				most = max(most, len(model))
				k = r.Uint64N(keys)
				if got := tab.find(hash(k), func(x *item) bool { return x.key == k }); got != model[k] {
					t.Fatalf("step %d: found %v for %d, want %v", i, got, k, model[k])
				}
				if tab.len() != len(model) {
					t.Fatalf("step %d: %d values, want %d", i, tab.len(), len(model))
				}
			}
			if most < int(steps/40) {
				t.Errorf("never more than %d values", most)
			}
			seen := map[uint64]bool{}
			for x := range tab.all() {
				if model[x.key] != x || seen[x.key] {
					t.Fatalf("%v once too often", x)
				}
				seen[x.key] = true
			}
			if len(seen) != len(model) {
				t.Errorf("%d values, want %d", len(seen), len(model))
			}
			for _, x := range model {
				tab.remove(x)
			}
			if tab.len() != 0 || tab.groups() > 4*groupsLeast {
				t.Errorf("an empty table has %d values and %d groups", tab.len(), tab.groups())
			}
		})
	}
}

// Nobody waits for the whole table to be moved: a change moves a few groups.
func TestTableMovesALittle(t *testing.T) {
	hashed := 0
	tab := newTable(func(i *item) uint64 { hashed++; return i.hash })
	var xs []*item
	for i := range uint64(100000) {
		x := &item{i, i * 0x9e3779b97f4a7c15}
		xs = append(xs, x)
		hashed = 0
		if tab.add(x); hashed > 1+2*groupsMoved*groupSlots {
			t.Fatalf("one more than %d: %d values hashed", i, hashed)
		}
	}
	if per := float64(tab.groups()*64) / float64(len(xs)); per > 27 {
		t.Errorf("%.1f bytes a value", per)
	}
	for i, x := range xs {
		hashed = 0
		if tab.remove(x); hashed > 1+2*groupsMoved*groupSlots {
			t.Fatalf("%d less: %d values hashed", i, hashed)
		}
	}
}

var flowLocal = netip.MustParseAddrPort("10.0.0.1:80")

func flowOf(i int) (local, remote netip.AddrPort) {
	a := netip.AddrFrom4([4]byte{10, 1, byte(i >> 24), byte(i >> 16)})
	return flowLocal, netip.AddrPortFrom(a, uint16(i))
}

// Attack 24: flows chosen to collide under one key spread under any other. Even the
// longest search looks at few groups.
func TestAttack24FlowFlooding(t *testing.T) {
	const n = 4096
	seedA, seedB := maphash.MakeSeed(), maphash.MakeSeed()
	longest := func(seed maphash.Seed, flows []int) (groups int) {
		hash := func(i int) uint64 { l, r := flowOf(i); return flowHash(seed, l, r) }
		tab := newTable(func(i *int) uint64 { return hash(*i) })
		for i := range flows {
			tab.add(&flows[i])
		}
		for tab.old != nil {
			tab.move()
		}
		for home := range tab.cur {
			n := 1
			for tab.cur[(home+n-1)%len(tab.cur)].passed() > 0 {
				n++
			}
			groups = max(groups, n)
		}
		return groups
	}
	var bad, any []int
	for i := 0; len(bad) < n; i++ {
		l, r := flowOf(i)
		if flowHash(seedA, l, r)>>54 == 3 {
			bad = append(bad, i)
		}
		if len(any) < n {
			any = append(any, i)
		}
	}
	if k := longest(seedA, any); k > 120 {
		t.Errorf("any flows: a search goes through %d groups", k)
	}
	if k := longest(seedA, bad); k < n/groupSlots/2 {
		t.Fatalf("flows chosen with the key: a search goes through %d groups only", k)
	}
	if k := longest(seedB, bad); k > 120 {
		t.Errorf("the same under another key: %d groups", k)
	}
}

// Flows of both families are found, and no others; a search allocates
// nothing.
func TestFlows(t *testing.T) {
	s := &Stack{}
	s.demux.init(nil)
	type ends struct{ local, remote netip.AddrPort }
	var all []ends
	for _, a := range []string{"10.0.0.1", "2001:db8::1"} {
		for _, b := range []string{"10.0.0.2", "10.0.0.3", "2001:db8::2", "2001:db8::3"} {
			l, r := netip.MustParseAddr(a), netip.MustParseAddr(b)
			if l.Is4() != r.Is4() {
				continue
			}
			for p := range uint16(10) {
				all = append(all, ends{netip.AddrPortFrom(l, 80+p%2), netip.AddrPortFrom(r, 1000+p/2)})
			}
		}
	}
	conns := map[ends]*TCPConn{}
	for i, e := range all {
		if i%2 == 0 {
			continue
		}
		d := &dst{key: dstKey{Pair: tcp.Pair{Local: e.local.Addr(), Remote: e.remote.Addr()}}}
		c := s.newTCPConn(d, e.local.Port(), e.remote.Port())
		conns[e] = c
		s.demux.flows.add(c)
	}
	for _, e := range all {
		if got := s.demux.conn(e.local, e.remote); got != conns[e] {
			t.Errorf("%v: found %p, want %p", e, got, conns[e])
		}
		if s.demux.conn(e.remote, e.local) != nil {
			t.Errorf("%v is found turned round", e)
		}
	}
	if n := testing.AllocsPerRun(100, func() { s.demux.conn(all[1].local, all[1].remote); s.demux.conn(all[25].local, all[25].remote) }); n != 0 {
		t.Errorf("a search allocates %v times", n)
	}
}

func BenchmarkFlowLookup(b *testing.B) {
	for _, n := range []int{1, 1000, 100000} {
		s := &Stack{}
		s.demux.init(nil)
		dsts := map[netip.Addr]*dst{}
		for i := range n {
			l, r := flowOf(i)
			d := dsts[r.Addr()]
			if d == nil {
				d = &dst{key: dstKey{Pair: tcp.Pair{Local: l.Addr(), Remote: r.Addr()}}}
				dsts[r.Addr()] = d
			}
			s.demux.flows.add(s.newTCPConn(d, l.Port(), r.Port()))
		}
		b.Run(fmt.Sprintf("conns=%d/hit", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				l, r := flowOf(i * 7919 % n)
				if s.demux.conn(l, r) == nil {
					b.Fatal("lost")
				}
			}
		})
		b.Run(fmt.Sprintf("conns=%d/miss", n), func(b *testing.B) {
			for i := range b.N {
				l, r := flowOf(i*7919%n + n)
				if s.demux.conn(l, r) != nil {
					b.Fatal("found")
				}
			}
		})
	}
}
