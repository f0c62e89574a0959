package stack

import (
	"testing"

	"github.com/onload-go/onload/ip"
)

// TestLeaving: a port is the kernel's from when its socket closes until a while after
// it is steered no longer, however many of its number there are.
func TestLeaving(t *testing.T) {
	var l leaving
	now := int64(10 * lastPackets)
	has := func(want bool) {
		t.Helper()
		if l.has(ip.ProtoTCP, 80, now) != want {
			t.Errorf("%v, want %v", !want, want)
		}
		if l.has(ip.ProtoUDP, 80, now) || l.has(ip.ProtoTCP, 81, now) {
			t.Error("another port is leaving")
		}
	}
	has(false)
	l.begin(ip.ProtoTCP, 80, now)
	l.begin(ip.ProtoTCP, 80, now)
	has(true)
	l.end(ip.ProtoTCP, 80, now)
	now += 10 * lastPackets
	has(true) // the other one is steered yet
	l.end(ip.ProtoTCP, 80, now)
	has(true)
	now += 3 * lastPackets
	has(false)
	if l.some.Load() {
		t.Error("packets pay although no port is leaving")
	}
}
