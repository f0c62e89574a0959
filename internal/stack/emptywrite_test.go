package stack

import (
	"io"
	"testing"
)

// TestEmptyWrite: a Write of nothing sends nothing and keeps nothing, as
// write(2) on a TCP socket; errors it tells all the same.
func TestEmptyWrite(t *testing.T) {
	a, b := newPair(t, pairOptions{})
	c, s := connect(t, a, b, addrB)
	before, err := c.Info()
	if err != nil {
		t.Fatal(err)
	}
	held := a.sizes().frames
	for range 10 {
		if n, err := c.Write(nil); n != 0 || err != nil {
			t.Fatal(n, err)
		}
	}
	after, err := c.Info()
	if err != nil {
		t.Fatal(err)
	}
	if after.SegsOut != before.SegsOut || a.sizes().frames != held {
		t.Errorf("%d segments sent, %d frames kept", after.SegsOut-before.SegsOut, a.sizes().frames-held)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(nil); err == nil {
		t.Error("no error after CloseWrite")
	}
	if n, err := s.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Error(n, err)
	}
}
