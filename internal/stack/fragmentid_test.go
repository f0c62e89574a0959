package stack

import "testing"

// TestFragmentID: the low half of an identification, which is IPv4's, is never 0, in
// so many of them that some hundred would be.
func TestFragmentID(t *testing.T) {
	for range 200 << 16 {
		if id := fragmentID(); uint16(id) == 0 {
			t.Fatalf("%#x", id)
		}
	}
}
