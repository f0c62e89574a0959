package afxdp

import "testing"

// A fast reader's queue makes do with few frames, one that fell behind gets
// all again.
func TestSize(t *testing.T) {
	q := &Queue{target: 4096}
	q.most.Store(4096)
	want := func(target int) {
		t.Helper()
		if q.target != target {
			t.Fatalf("%d frames, want %d", q.target, target)
		}
	}
	for range calmFor/64 - 1 {
		q.size(64, 64)
		want(4096)
	}
	q.size(fewWait, 64)
	want(fewFrames)
	for range 2 * calmFor / 64 {
		q.size(fewWait, 64)
		want(fewFrames)
	}
	q.size(fewWait+1, 64)
	want(4096)
	for range calmFor/64 - 1 {
		q.size(1, 64)
	}
	q.size(fewWait+1, 64)
	for range calmFor/64 - 1 {
		q.size(1, 64)
		want(4096)
	}
	q.size(1, 64)
	want(fewFrames)

	q = &Queue{target: 512} // never had many
	q.most.Store(512)
	for range 2 * calmFor / 64 {
		q.size(1, 64)
		want(512)
	}
}
