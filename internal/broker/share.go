package broker

import (
	"sync"

	"golang.org/x/sys/unix"
)

// share is something that clients have in common, of which there is so much. A user gets
// no more of it than is left to others: one user at most half, two users a third each. So
// nobody can take all.
type share struct {
	what string // in words that follow "of"
	most int

	mu   sync.Mutex
	used int
	by   map[*account]int
}

func newShare(what string, most int) *share {
	return &share{what: what, most: most, by: map[*account]int{}}
}

// take takes one for a user. The error is that errno, if there is none left for this user.
func (s *share) take(a *account, errno unix.Errno) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by[a] >= s.most-s.used {
		return refused(errno, "the user has %d of %d %s, of which %d are left to others", s.by[a], s.most, s.what, s.most-s.used)
	}
	s.used++
	s.by[a]++
	return nil
}

// put gives n back.
func (s *share) put(a *account, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= n
	if s.by[a] -= n; s.by[a] <= 0 {
		delete(s.by, a)
	}
}

// force counts one that the user has already.
func (s *share) force(a *account) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used++
	s.by[a]++
}

// account is a user with clients.
type account struct {
	// turn is the user's: links are made and ended one at a time, so that other users do not
	// stand behind all processes of one. It is not held while a client is waited for.
	turn sync.Mutex
}
