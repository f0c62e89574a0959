//go:build race

package stack

import (
	"testing"

	"github.com/onload-go/onload/ring"
)

// TestMustHold: under the race detector, functions for the holder of the stack lock
// panic if nobody holds it.
func TestMustHold(t *testing.T) {
	s := &Stack{lock: ring.NewLock()} // without a reactor, which might hold the lock
	for name, do := range map[string]func(){
		"poll":  func() { s.poll() },
		"touch": func() { s.touch(&TCPConn{}) },
		"send":  func() { s.send(&dst{}, 0, nil, 0) },
	} {
		func() {
			defer func() {
				if got := recover(); got != notHeld {
					t.Errorf("%s without the lock: %v", name, got)
				}
			}()
			do()
		}()
	}
}
