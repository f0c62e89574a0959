// Package allocs counts what a call allocates, in tests whose process has
// other goroutines.
package allocs

import "testing"

// PerRun is testing.AllocsPerRun where other goroutines of the process allocate
// too. It measures five times and returns the least: f's own allocations are in
// each, those of others are not.
func PerRun(runs int, f func()) float64 {
	least := testing.AllocsPerRun(runs, f)
	for range 4 {
		if least == 0 {
			break
		}
		least = min(least, testing.AllocsPerRun(runs, f))
	}
	return least
}
