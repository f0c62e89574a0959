package stackuse

import "testing"

//go:noinline
func local(n int) byte {
	var a [1000]byte
	for i := range a {
		a[i] = byte(n + i)
	}
	if n > 0 {
		return local(n-1) + a[n]
	}
	return a[0]
}

// A call uses what its frames have, and no more.
func TestOf(t *testing.T) {
	if n := Of(nil, func() {}); n > 200 {
		t.Errorf("a function that does nothing uses %d bytes", n)
	}
	one, five := Of(nil, func() { local(0) }), Of(nil, func() { local(4) })
	if one < 1000 || one > 1400 || five < 5000 || five > 5800 {
		t.Errorf("a frame of 1,000 bytes: %d, five of them: %d", one, five)
	}
	if n := Of(nil, func() { local(30) }); n != room {
		t.Errorf("more than is looked at: %d, want %d", n, room)
	}
}
