package ring

import (
	"math/rand/v2"
	"runtime"
	"testing"
)

func TestSPSCModel(t *testing.T) {
	for _, n := range []int{1, 2, 5, 64} {
		q := NewSPSC[int](n)
		if q.Cap() < n || q.Cap()&(q.Cap()-1) != 0 {
			t.Fatalf("Cap(%d) is %d", n, q.Cap())
		}
		q.tail.Store(1<<32 - 10) // the indices wrap
		q.head.Store(1<<32 - 10)
		q.headSeen, q.tailSeen = 1<<32-10, 1<<32-10
		var model []int
		r := rand.New(rand.NewPCG(uint64(n), 0))
		for i := range 10000 {
			if r.IntN(2) == 0 {
				if ok := q.Push(i); ok != (len(model) < q.Cap()) {
					t.Fatalf("Push is %v with %d of %d", ok, len(model), q.Cap())
				} else if ok {
					model = append(model, i)
				}
			} else {
				v, ok := q.Pop()
				if ok != (len(model) > 0) || ok && v != model[0] {
					t.Fatalf("Pop is %d, %v", v, ok)
				}
				if ok {
					model = model[1:]
				}
			}
			if q.Len() != len(model) {
				t.Fatalf("Len is %d, not %d", q.Len(), len(model))
			}
		}
	}
}

// The producer's plain writes travel with the value.
func TestSPSCTorture(t *testing.T) {
	for _, size := range []int{1, 8, 256} {
		q := NewSPSC[*int](size)
		rounds := tortureRounds() * 5
		go func() {
			for i := range rounds {
				v := new(int)
				*v = i
				for !q.Push(v) {
					runtime.Gosched()
				}
			}
		}()
		for i := 0; i < rounds; {
			v, ok := q.Pop()
			if !ok {
				runtime.Gosched()
				continue
			}
			if *v != i {
				t.Fatalf("%d where %d was due", *v, i)
			}
			i++
		}
		if q.Len() != 0 {
			t.Error("not empty")
		}
		for _, p := range q.buf {
			if p != nil {
				t.Error("the queue keeps a value that was taken")
			}
		}
	}
}

func TestSPSCAllocs(t *testing.T) {
	q := NewSPSC[Desc](64)
	if n := testing.AllocsPerRun(1000, func() {
		q.Push(Desc{})
		q.Pop()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkSPSC(b *testing.B) {
	b.Run("pushpop", func(b *testing.B) {
		q := NewSPSC[Desc](256)
		for b.Loop() {
			q.Push(Desc{})
			q.Pop()
		}
	})
	b.Run("across", func(b *testing.B) {
		q := NewSPSC[Desc](1024)
		n := b.N
		go func() {
			for i := 0; i < n; {
				if q.Push(Desc{}) {
					i++
				} else {
					runtime.Gosched()
				}
			}
		}()
		for i := 0; i < n; {
			if _, ok := q.Pop(); ok {
				i++
			} else {
				runtime.Gosched()
			}
		}
	})
}
