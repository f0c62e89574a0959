package ring

import "unsafe"

// prefetch asks for the cache lines of p and q.
//
//go:noescape
func prefetch(p, q *byte)

// Expect has the processor fetch the line at off of f, and what is known of f:
// another processor wrote the one, and the other was last used some thousand
// frames ago. Waiting for each when it is needed costs a packet 100 ns.
func (a *Arena) Expect(f Frame, off int) {
	prefetch(&a.mem[int(f)<<a.shift+off], (*byte)(unsafe.Pointer(&a.meta[f])))
}
