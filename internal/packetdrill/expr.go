package packetdrill

import (
	"strconv"
	"strings"
)

// maxDepth bounds how deep expressions nest.
const maxDepth = 32

// list reads expressions up to end.
func (s *scanner) list(end string, depth int) (es []Expr, err error) {
	for !s.take(end) {
		if len(es) > 0 {
			if err := s.expect(","); err != nil {
				return nil, err
			}
		}
		e, err := s.expr(depth)
		if err != nil {
			return nil, err
		}
		es = append(es, e)
	}
	return es, nil
}

// expr reads an expression, of which | binds least.
func (s *scanner) expr(depth int) (e Expr, err error) {
	if depth > maxDepth {
		return e, s.fail("expressions nest too deep")
	}
	if e, err = s.operand(depth); err != nil {
		return e, err
	}
	for s.take("|") {
		r, err := s.operand(depth)
		if err != nil {
			return e, err
		}
		e = Expr{Kind: Or, Args: []Expr{e, r}}
	}
	return e, nil
}

func (s *scanner) operand(depth int) (e Expr, err error) {
	switch s.space(); {
	case s.take("..."):
		return Expr{Kind: Ellipsis}, nil
	case s.take("["):
		e.Kind = Array
		e.Args, err = s.list("]", depth+1)
		return e, err
	case s.take("{"):
		return s.structure(depth + 1)
	case s.take("~"):
		e.Kind = Not
		if depth >= maxDepth {
			return e, s.fail("expressions nest too deep")
		}
		x, err := s.operand(depth + 1)
		e.Args = []Expr{x}
		return e, err
	case s.take("\""):
		e.Kind = String
		e.Text, err = s.quoted()
		return e, err
	}
	if b := s.peek(); b == '-' || b >= '0' && b <= '9' {
		return s.number()
	}
	e.Kind, e.Text = Name, s.word()
	if e.Text == "" {
		return e, s.fail("expression expected at %q", s.near())
	}
	if s.peek() == '(' {
		s.advance(1)
		e.Kind = Apply
		e.Args, err = s.list(")", depth+1)
	}
	return e, err
}

func (s *scanner) number() (Expr, error) {
	neg := s.take("-")
	w := s.word()
	u, err := strconv.ParseUint(w, 0, 64)
	if err != nil {
		return Expr{}, s.fail("bad number %q", w)
	}
	n := int64(u)
	if neg {
		n = -n
	}
	return Expr{Kind: Number, Num: n}, nil
}

// quoted reads the rest of a string in C's notation.
func (s *scanner) quoted() (string, error) {
	r := s.rest()
	for i := 0; i < len(r) && r[i] != '\n'; i++ {
		switch r[i] {
		case '\\':
			i++
		case '"':
			t, err := strconv.Unquote("\"" + r[:i] + "\"")
			if err != nil {
				return "", s.fail("bad string %q", r[:i])
			}
			s.advance(i + 1)
			return t, nil
		}
	}
	return "", s.fail("the string does not end")
}

// structure reads the rest of {name=value, ...} or {value, ...}.
func (s *scanner) structure(depth int) (e Expr, err error) {
	e.Kind = Struct
	for n := 0; !s.take("}"); n++ {
		if n > 0 {
			if err := s.expect(","); err != nil {
				return e, err
			}
		}
		f, named, err := s.field(depth)
		if err != nil {
			return e, err
		}
		if named {
			e.Fields = append(e.Fields, f)
		} else {
			e.Args = append(e.Args, f.Value)
		}
	}
	return e, nil
}

func (s *scanner) field(depth int) (f Field, named bool, err error) {
	x, err := s.expr(depth)
	if err != nil {
		return f, false, err
	}
	if !s.take("=") {
		return Field{Value: x}, false, nil
	}
	switch {
	case x.Kind == Name:
	case x.Kind == Apply && len(x.Args) == 1:
		f.Count = &x.Args[0]
	default:
		return f, false, s.fail("a member's name expected")
	}
	f.Name = strings.TrimPrefix(x.Text, ".")
	f.Value, err = s.expr(depth)
	return f, true, err
}
