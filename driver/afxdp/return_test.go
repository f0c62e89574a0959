package afxdp

import (
	"errors"
	"testing"

	"github.com/onload-go/onload/internal/lab"
)

// A frame counts as waiting until the kernel has it, and those that are too many
// are counted.
func TestReturnErrors(t *testing.T) {
	p := lab.NewPair(t, lab.Options{Neighbors: true})
	d := openAt(t, p.A, Config{})
	r := &d.returns
	frame := datagram(v4of(p.B), v4of(p.A), 9, 100, pattern(20))
	waiting := func(n int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.bytes = n
	}
	waiting(maxReturns)
	d.Return(frame)
	if n := d.ReturnErrors(); n != 1 {
		t.Errorf("%d frames lost of one too many", n)
	}
	waiting(0)
	d.Return(frame)
	r.close()
	if n := d.ReturnErrors(); n != 1 || r.bytes != 0 {
		t.Errorf("%d frames lost, %d bytes left", n, r.bytes)
	}
	r.waiting, r.bytes = [][]byte{frame}, len(frame)
	if r.take(); r.bytes != len(frame) {
		t.Errorf("%d bytes while %d are being given back", r.bytes, len(frame))
	}
	if r.done(len(frame)); r.bytes != 0 {
		t.Errorf("%d bytes after that", r.bytes)
	}
}

// TestReturnNamespace: a namespace that cannot be entered costs the frames that wait,
// and one that cannot be left again costs none of those that come meanwhile.
func TestReturnNamespace(t *testing.T) {
	p := lab.NewPair(t, lab.Options{Neighbors: true})
	d := openAt(t, p.A, Config{})
	r := &d.returns
	frame := func() []byte { return datagram(v4of(p.B), v4of(p.A), 9, 100, pattern(20)) }
	inNS := d.inNS
	failed := errors.New("setns")
	d.inNS = func(func() error) error { return failed }
	d.Return(frame())
	r.await()
	if n := d.ReturnErrors(); n != 1 || r.bytes != 0 {
		t.Errorf("not entered: %d frames lost, %d bytes left", n, r.bytes)
	}
	first := true
	second := make(chan struct{})
	d.inNS = func(f func() error) error {
		if !first {
			<-second // until the first has returned
			return inNS(f)
		}
		first = false
		if err := inNS(f); err != nil {
			return err
		}
		d.Return(frame()) // nobody gives back any more, so this starts another
		return failed
	}
	was := d.ReturnErrors()
	d.giveBack() // of nothing
	close(second)
	r.await()
	if n := d.ReturnErrors(); n != was || r.bytes != 0 || r.waiting != nil {
		t.Errorf("not left: %d frames lost, %d bytes and %d frames left", n-was, r.bytes, len(r.waiting))
	}
}

// await returns when no goroutine gives frames back.
func (r *returns) await() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.running {
		r.idle.Wait()
	}
}
