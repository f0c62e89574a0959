package tcp

import (
	"net/netip"
	"testing"
)

// Attack 24: addresses chosen for the buckets of one listener collide in no
// other, since the hash is keyed; those that nobody chose spread evenly. The
// stack's own tables: TestAttack24FlowFlooding in internal/stack.
func TestAttack24HashFlooding(t *testing.T) {
	const n = 512
	from := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 16), byte(i >> 8)}), uint16(1024+i&0xff))
	}
	longest := func(q *synQueue) (most int) {
		for _, i := range q.buckets {
			k := 0
			for ; i != 0; i = q.slab[i].chain {
				k++
			}
			most = max(most, k)
		}
		return most
	}
	fill := func(key byte, pick func(q *synQueue, a netip.AddrPort) bool) (*synQueue, []netip.AddrPort) {
		q := &synQueue{key: &[16]byte{key}}
		q.buckets = make([]uint32, n)
		var as []netip.AddrPort
		for i := 0; len(as) < n-1; i++ {
			if a := from(i); pick(q, a) {
				as = append(as, a)
			}
		}
		q.buckets = nil
		for _, a := range as {
			i, _ := q.add(testLocal, a)
			q.schedule(i, 0)
		}
		return q, as
	}
	q, _ := fill(1, func(*synQueue, netip.AddrPort) bool { return true })
	if k := longest(q); k > 10 {
		t.Errorf("%d of %d in a bucket", k, n)
	}
	// An attacker that knew the key could fill one bucket.
	q, bad := fill(1, func(q *synQueue, a netip.AddrPort) bool { return q.bucket(testLocal, a) == 3 })
	if k := longest(q); k != n-1 {
		t.Fatalf("%d in the bucket, %d were chosen for it", k, n-1)
	}
	r := &synQueue{key: &[16]byte{2}}
	for _, a := range bad {
		i, _ := r.add(testLocal, a)
		r.schedule(i, 0)
	}
	if k := longest(r); k > 10 {
		t.Errorf("%d of %d in a bucket under another key", k, n)
	}
}
