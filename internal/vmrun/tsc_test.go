package vmrun

import (
	"testing"
	"time"
)

// The rate of the time stamp counter is what a later measurement over a longer time says.
func TestTSC(t *testing.T) {
	if readTSC() == 0 {
		t.Skip("guests run on amd64")
	}
	khz := tscKHz()
	from, start := readClocks()
	time.Sleep(100 * time.Millisecond)
	to, end := readClocks()
	ticks, want := to-from, khz*uint64(end.Sub(start))/uint64(time.Millisecond)
	if diff := int64(ticks - want); diff > int64(want/100) || -diff > int64(want/100) {
		t.Errorf("%d ticks in %v, want %d of %d kHz", ticks, end.Sub(start), want, khz)
	}
}
