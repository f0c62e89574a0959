package engine

import (
	"syscall"
	"testing"
)

// TestSharedWindowFailure: a window that could not be opened, because descriptors
// were short, is opened by a later call, and then kept.
func TestSharedWindowFailure(t *testing.T) {
	var s sharedWindow
	short := func(error) (*window, error) { return nil, syscall.EMFILE }
	if w, err := s.get(short); w != nil || err != syscall.EMFILE {
		t.Fatalf("%v, %v without descriptors", w, err)
	}
	w, err := s.get(newWindow)
	if err != nil {
		t.Fatalf("with descriptors again: %v", err)
	}
	defer w.close()
	if again, err := s.get(short); again != w || err != nil {
		t.Errorf("the next call: %v, %v, want %v", again, err, w)
	}
}
