package broker

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// TestShare: a user gets no more than is left to others, and what is given back is anybody's.
func TestShare(t *testing.T) {
	s := newShare("things", 12)
	a, b, c := new(account), new(account), new(account)
	take := func(u *account) (n int) {
		for s.take(u, unix.ENOSPC) == nil {
			n++
		}
		return n
	}
	if got := [3]int{take(a), take(b), take(c)}; got != [3]int{6, 3, 2} {
		t.Errorf("users get %v of 12", got)
	}
	if err := s.take(a, unix.ENOSPC); !errors.Is(err, unix.ENOSPC) {
		t.Error(err)
	}
	s.put(a, 6)
	s.put(c, 2)
	if n := take(c); n != 5 { // 3 are b's
		t.Errorf("the last one gets %d", n)
	}
	s.put(b, 3)
	s.put(c, 5)
	if s.used != 0 || len(s.by) != 0 {
		t.Errorf("%d used by %d", s.used, len(s.by))
	}
}
