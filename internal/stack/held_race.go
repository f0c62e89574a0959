//go:build race

package stack

const notHeld = "stack: the stack lock is not held"

// mustHold panics unless somebody holds the stack lock. Builds without the race
// detector do not check.
func (s *Stack) mustHold() {
	if !s.lock.Held() {
		panic(notHeld)
	}
}
