package ip

import "reflect"

// FragStats are the counters of a Reassembler. They belong to its caller's
// lock.
type FragStats struct {
	Fragments  uint64 `help:"fragments that came to be put together"`
	Whole      uint64 `help:"datagrams put together"`
	Timeouts   uint64 `help:"datagrams that stayed incomplete"`
	Evicted    uint64 `help:"datagrams dropped for memory"`
	Overlaps   uint64 `help:"datagrams dropped: overlapping or contradicting fragments"`
	Oversize   uint64 `help:"datagrams dropped: too long, or in too many pieces"`
	Tiny       uint64 `help:"first fragments without the headers"`
	Malformed  uint64 `help:"fragments of no length, or of one that is no multiple of 8"`
	ECN        uint64 `help:"datagrams dropped: contradicting ECN codepoints"`
	Duplicates uint64 `help:"fragments that were there already"`
	TooFar     uint64 `help:"datagrams dropped: 64 other fragments of the peer came meanwhile"`
	Returned   uint64 `help:"fragments given to the kernel, whose they are or may be"`
}

// Each calls f for every counter, with its meaning.
func (s *FragStats) Each(f func(name, help string, n uint64)) {
	v := reflect.ValueOf(s).Elem()
	for i := range v.NumField() {
		t := v.Type().Field(i)
		f(t.Name, t.Tag.Get("help"), v.Field(i).Uint())
	}
}
