package engine

import "testing"

// TestGuardianOfEnvironment: the environment does not name the program that gets the raw
// sockets of a process with more rights than its starter.
func TestGuardianOfEnvironment(t *testing.T) {
	for _, c := range []struct {
		value    string
		elevated bool
		taken    bool
	}{{"/tmp/x", false, true}, {"/tmp/x", true, false}, {"self", true, true}, {"off", true, true}} {
		var got Config
		err := setGuardian(&got, c.value, c.elevated)
		if (err == nil) != c.taken || c.taken && got.Guardian != c.value {
			t.Errorf("%+v: %q, %v", c, got.Guardian, err)
		}
	}
}
