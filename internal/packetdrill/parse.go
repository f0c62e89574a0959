package packetdrill

import (
	"strconv"
	"strings"
)

// Parse reads a script. Its errors are of type *Error.
func Parse(src string) (*Script, error) {
	s := &scanner{src: src, line: 1}
	sc := &Script{}
	for {
		s.space()
		if s.done() {
			return sc, nil
		}
		if o, ok, err := s.option(); err != nil {
			return nil, err
		} else if ok {
			if len(sc.Events) > 0 {
				return nil, s.fail("option after the first event")
			}
			sc.Options = append(sc.Options, o)
			continue
		}
		ev, err := s.event()
		if err != nil {
			return nil, err
		}
		sc.Events = append(sc.Events, ev)
	}
}

// option reads --name=value or -D name=value.
func (s *scanner) option() (o Option, ok bool, err error) {
	o.Line = s.line
	switch {
	case s.take("--"):
	case s.take("-D"):
		o.Define = true
	default:
		return o, false, nil
	}
	o.Name = s.word()
	if o.Name == "" {
		return o, false, s.fail("option without a name")
	}
	if s.peek() == '=' {
		s.advance(1)
		o.Value = s.run(func(b byte) bool { return strings.IndexByte(" \t\r\n", b) < 0 })
	}
	return o, true, nil
}

// event reads a line: time and what happens. A command in front of all may
// stand without a time.
func (s *scanner) event() (ev Event, err error) {
	ev.Line = s.line
	if s.peek() == '`' {
		ev.Time.Kind = Relative
	} else if ev.Time, err = s.time(); err != nil {
		return ev, err
	}
	s.space()
	switch r := s.rest(); {
	case strings.HasPrefix(r, "`"):
		s.advance(1)
		t, err := s.until("`")
		ev.Shell = &t
		return ev, err
	case strings.HasPrefix(r, "%{"):
		s.advance(2)
		t, err := s.until("}%")
		ev.Code = &t
		return ev, err
	case strings.HasPrefix(r, "<"), strings.HasPrefix(r, ">"):
		ev.Packet, err = s.packet()
	default:
		ev.Call, err = s.call()
	}
	return ev, err
}

// maxSeconds keeps a time, and the sum of many, within an int64.
const maxSeconds = 1e6

// seconds reads a number of seconds, which may begin or end with its point.
func (s *scanner) seconds() (int64, error) {
	s.space()
	r := s.rest()
	n := 0
	for point := false; n < len(r); n++ {
		if r[n] == '.' && !point && !strings.HasPrefix(r[n:], "...") {
			point = true
		} else if r[n] < '0' || r[n] > '9' {
			break
		}
	}
	f, err := strconv.ParseFloat(r[:n], 64)
	if err != nil || f > maxSeconds {
		return 0, s.fail("time expected at %q", s.near())
	}
	s.advance(n)
	return int64(f*1e9 + 0.5), nil
}

func (s *scanner) time() (t Time, err error) {
	if s.take("*") {
		t.Kind = AnyTime
		return t, nil
	}
	if s.take("+") {
		t.Kind = Relative
	}
	if t.At, err = s.seconds(); err != nil {
		return t, err
	}
	switch {
	case s.take("..."):
		t.Blocking = true
	case s.take("~"):
		t.Range = true
	default:
		return t, nil
	}
	if s.take("+") != (t.Kind == Relative) && t.Range {
		return t, s.fail("both ends of a range are absolute, or both relative")
	}
	if t.To, err = s.seconds(); err == nil && t.To < t.At {
		err = s.fail("the end of a time lies before its beginning")
	}
	return t, err
}

// call reads name(args) = result errno (note).
func (s *scanner) call() (c *Call, err error) {
	c = &Call{Name: s.word()}
	if c.Name == "" {
		return nil, s.fail("event expected at %q", s.near())
	}
	if err = s.expect("("); err != nil {
		return nil, err
	}
	if c.Args, err = s.list(")", 0); err != nil {
		return nil, err
	}
	if err = s.expect("="); err != nil {
		return nil, err
	}
	if c.Result, err = s.expr(0); err != nil {
		return nil, err
	}
	s.space()
	if b := s.peek(); b >= 'A' && b <= 'Z' {
		c.Errno = s.word()
	}
	if s.take("(") {
		_, err = s.until(")")
	}
	return c, err
}
