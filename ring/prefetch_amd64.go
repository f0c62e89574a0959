package ring

import "unsafe"

// prefetch asks for the cache lines of p and q.
//
//go:noescape
func prefetch(p, q *byte)

// Expect has the processor fetch the cache line at off of f, and the frame's Meta.
// Another processor wrote the former, and the latter was last used some thousand
// frames ago. Waiting for each when it is needed costs a packet 100 ns.
func (a *Arena) Expect(f Frame, off int) {
	prefetch(&a.mem[int(f)<<a.shift+off], (*byte)(unsafe.Pointer(&a.meta[f])))
}
