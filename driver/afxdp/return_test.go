package afxdp

import (
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
