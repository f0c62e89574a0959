// Package allocs counts what a call allocates, in tests whose process has
// other goroutines.
package allocs

import "testing"

// PerRun is testing.AllocsPerRun, which counts what all goroutines of the
// process allocate. What f allocates is in each of five measurements, the
// others' work is not: the least counts.
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
