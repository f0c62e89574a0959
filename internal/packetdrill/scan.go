package packetdrill

import (
	"fmt"
	"strings"
)

// Error says why a script cannot be read, and where.
type Error struct {
	Line int
	What string
	// Unsupported says that the script has a meaning, but not here.
	Unsupported bool
}

func (e *Error) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.What) }

// scanner walks over a script.
type scanner struct {
	src  string
	pos  int
	line int
}

func (s *scanner) fail(format string, args ...any) error {
	return &Error{Line: s.line, What: fmt.Sprintf(format, args...)}
}

func (s *scanner) done() bool { return s.pos >= len(s.src) }

// peek returns the next byte; 0 at the end.
func (s *scanner) peek() byte {
	if s.done() {
		return 0
	}
	return s.src[s.pos]
}

func (s *scanner) rest() string { return s.src[s.pos:] }

func (s *scanner) advance(n int) {
	s.line += strings.Count(s.src[s.pos:s.pos+n], "\n")
	s.pos += n
}

// standard is the name that scripts with #ifdef expect to be defined where the
// RFCs are followed.
const standard = "STANDARD"

// space skips blanks, comments, and what #ifdef leaves out.
func (s *scanner) space() {
	for !s.done() {
		switch r := s.rest(); {
		case strings.IndexByte(" \t\r\n", r[0]) >= 0:
			s.advance(1)
		case strings.HasPrefix(r, "#ifdef") && !strings.HasPrefix(r, "#ifdef "+standard):
			if i := strings.Index(r, "#endif"); i >= 0 {
				s.advance(i)
			} else {
				s.advance(len(r))
			}
		case r[0] == '#', strings.HasPrefix(r, "//"):
			if i := strings.IndexByte(r, '\n'); i >= 0 {
				s.advance(i)
			} else {
				s.advance(len(r))
			}
		case strings.HasPrefix(r, "/*"):
			if i := strings.Index(r[2:], "*/"); i >= 0 {
				s.advance(i + 4)
			} else {
				s.advance(len(r))
			}
		default:
			return
		}
	}
}

// take skips blanks and then tok, if it is there.
func (s *scanner) take(tok string) bool {
	s.space()
	if !strings.HasPrefix(s.rest(), tok) {
		return false
	}
	s.advance(len(tok))
	return true
}

func (s *scanner) expect(tok string) error {
	if !s.take(tok) {
		return s.fail("%q expected at %q", tok, s.near())
	}
	return nil
}

// near is the text at this place, for errors.
func (s *scanner) near() string {
	r, _, _ := strings.Cut(s.rest(), "\n")
	return r[:min(len(r), 30)]
}

func wordByte(b byte) bool {
	return b == '_' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
}

// run takes the bytes for which ok holds.
func (s *scanner) run(ok func(byte) bool) string {
	s.space()
	n := 0
	for r := s.rest(); n < len(r) && ok(r[n]); n++ {
	}
	w := s.rest()[:n]
	s.advance(n)
	return w
}

func (s *scanner) word() string { return s.run(wordByte) }

// keyword takes the word w, if it is there as a whole.
func (s *scanner) keyword(w string) bool {
	s.space()
	r := s.rest()
	if !strings.HasPrefix(r, w) || len(r) > len(w) && wordByte(r[len(w)]) {
		return false
	}
	s.advance(len(w))
	return true
}

// until takes the text before end, and end.
func (s *scanner) until(end string) (string, error) {
	i := strings.Index(s.rest(), end)
	if i < 0 {
		return "", s.fail("%q does not end", s.near())
	}
	t := s.rest()[:i]
	s.advance(i + len(end))
	return t, nil
}
