package stack

import (
	"fmt"
	"time"
)

// Profile sets all parameters of waiting together.
type Profile uint8

const (
	// Balanced spins as long as it pays and nobody else wants the processor.
	Balanced Profile = iota
	// Latency spins long: a waiting goroutine owns its processor.
	Latency
	// Throughput never spins: it sleeps in the runtime's netpoller.
	Throughput
)

var profileNames = [...]string{"balanced", "latency", "throughput"}

func (p Profile) String() string {
	if int(p) < len(profileNames) {
		return profileNames[p]
	}
	return fmt.Sprintf("Profile(%d)", p)
}

// ParseProfile is the inverse of String.
func ParseProfile(s string) (Profile, error) {
	for i, n := range profileNames {
		if n == s {
			return Profile(i), nil
		}
	}
	return 0, fmt.Errorf("unknown profile %q: want balanced, latency or throughput", s)
}

// Spin budgets: how long a goroutine polls before it parks.
const (
	latencySpin  = 100 * time.Millisecond
	balancedSpin = time.Millisecond // at most; policy decides
)

// spinBudget returns the budget of a Profile, or spin if that is set.
func (p Profile) spinBudget(spin time.Duration) int64 {
	switch {
	case spin < 0:
		return 0
	case spin > 0:
		return int64(spin)
	case p == Latency:
		return int64(latencySpin)
	case p == Throughput:
		return 0
	}
	return int64(balancedSpin)
}
