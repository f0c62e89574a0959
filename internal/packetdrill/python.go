package packetdrill

import (
	"fmt"
	"strconv"
	"strings"
)

// value is a value of the Python subset: an integer or, where str is set, a
// string.
type value struct {
	n   int64
	str *string
}

func (v value) String() string {
	if v.str != nil {
		return *v.str
	}
	return strconv.FormatInt(v.n, 10)
}

func (v value) truth() bool {
	if v.str != nil {
		return *v.str != ""
	}
	return v.n != 0
}

func boolean(b bool) value {
	if b {
		return value{n: 1}
	}
	return value{}
}

// python evaluates statements: assert, print, assignments. Everything else of
// Python is unsupported.
type python struct {
	toks []string
	pos  int
	get  func(name string) (value, error)
	set  func(name string, v value)
}

// runPython runs text, whose lines and semicolons separate statements.
func runPython(text string, get func(string) (value, error), set func(string, value)) error {
	text = strings.ReplaceAll(text, "\\\n", " ")
	for _, line := range strings.Split(text, "\n") {
		toks, err := pyTokens(line)
		if err != nil {
			return err
		}
		for len(toks) > 0 {
			n := 0
			for n < len(toks) && toks[n] != ";" {
				n++
			}
			p := &python{toks: toks[:n], get: get, set: set}
			if err := p.statement(); err != nil {
				return err
			}
			toks = toks[min(n+1, len(toks)):]
		}
	}
	return nil
}

var pyOps = []string{"**", "//", "<<", ">>", "<=", ">=", "==", "!=", "+=", "-=", "*="}

// pyTokens cuts a line; strings keep their opening quote.
func pyTokens(s string) (toks []string, err error) {
	for len(s) > 0 {
		switch c := s[0]; {
		case c == ' ' || c == '\t' || c == '\r':
			s = s[1:]
			continue
		case c == '#':
			return toks, nil
		case c == '\'' || c == '"':
			i := strings.IndexByte(s[1:], c)
			if i < 0 {
				return nil, failf("a string in Python does not end")
			}
			toks = append(toks, "'"+s[1:i+1])
			s = s[i+2:]
			continue
		}
		n := 0
		for n < len(s) && wordByte(s[n]) {
			n++
		}
		if n == 0 {
			n = 1
			for _, op := range pyOps {
				if strings.HasPrefix(s, op) {
					n = 2
				}
			}
		}
		toks = append(toks, s[:n])
		s = s[n:]
	}
	return toks, nil
}

func (p *python) peek() string {
	if p.pos < len(p.toks) {
		return p.toks[p.pos]
	}
	return ""
}

func (p *python) take(t string) bool {
	if p.peek() == t {
		p.pos++
		return true
	}
	return false
}

func (p *python) bad() error { return unsupportedf("Python %q", strings.Join(p.toks, " ")) }

func (p *python) statement() error {
	if len(p.toks) == 0 {
		return nil
	}
	switch {
	case p.take("assert"):
		return p.assert()
	case p.take("print"):
		return nil
	case len(p.toks) > 2 && (p.toks[1] == "=" || p.toks[1] == "+=" || p.toks[1] == "-="):
		name, op := p.toks[0], p.toks[1]
		p.pos = 2
		v, err := p.or()
		if err != nil {
			return err
		}
		if op != "=" {
			old, err := p.get(name)
			if err != nil {
				return err
			}
			if op == "-=" {
				v.n = -v.n
			}
			v.n += old.n
		}
		p.set(name, v)
		return p.end()
	case p.toks[0] == "import":
		return nil
	}
	return p.bad()
}

func (p *python) end() error {
	if p.pos != len(p.toks) {
		return p.bad()
	}
	return nil
}

func (p *python) assert() error {
	start := p.pos
	v, err := p.or()
	if err != nil || v.truth() && p.take(",") || v.truth() && p.end() == nil {
		return err
	}
	if v.truth() {
		return p.bad()
	}
	what := strings.Join(p.toks[start:p.pos], " ")
	seen := map[string]bool{}
	for _, t := range p.toks[start:p.pos] {
		if strings.HasPrefix(t, "tcpi_") && !seen[t] {
			seen[t] = true
			if v, err := p.get(t); err == nil {
				what += fmt.Sprintf("; %s is %v", t, v)
			}
		}
	}
	return failf("assertion failed: %s", what)
}

func (p *python) or() (value, error) {
	l, err := p.and()
	for err == nil && p.take("or") {
		var r value
		if r, err = p.and(); !l.truth() {
			l = r
		}
	}
	return l, err
}

func (p *python) and() (value, error) {
	l, err := p.not()
	for err == nil && p.take("and") {
		var r value
		if r, err = p.not(); l.truth() {
			l = r
		}
	}
	return l, err
}

func (p *python) not() (value, error) {
	if p.take("not") {
		v, err := p.not()
		return boolean(!v.truth()), err
	}
	return p.comparison()
}

// comparison reads a < b <= c, which all must hold.
func (p *python) comparison() (value, error) {
	l, err := p.binary(0)
	all, some := true, false
	for err == nil {
		op := p.peek()
		if op != "<" && op != "<=" && op != ">" && op != ">=" && op != "==" && op != "!=" {
			break
		}
		p.pos++
		var r value
		if r, err = p.binary(0); err != nil {
			break
		}
		some = true
		all = all && map[string]bool{"<": l.n < r.n, "<=": l.n <= r.n, ">": l.n > r.n, ">=": l.n >= r.n, "==": l.n == r.n, "!=": l.n != r.n}[op]
		l = r
	}
	if some {
		return boolean(all), err
	}
	return l, err
}

// pyLevels are the binary operators, the loosest first.
var pyLevels = [][]string{{"|"}, {"^"}, {"&"}, {"<<", ">>"}, {"+", "-"}, {"*", "//", "/", "%"}}

func (p *python) binary(level int) (value, error) {
	if level == len(pyLevels) {
		return p.unary()
	}
	l, err := p.binary(level + 1)
	for err == nil {
		op := ""
		for _, o := range pyLevels[level] {
			if p.peek() == o {
				op = o
			}
		}
		if op == "" {
			break
		}
		p.pos++
		var r value
		if r, err = p.binary(level + 1); err == nil {
			l, err = p.apply(op, l, r)
		}
	}
	return l, err
}

func (p *python) apply(op string, l, r value) (value, error) {
	if l.str != nil && op == "%" {
		return l, nil // a message
	}
	switch op {
	case "|":
		return value{n: l.n | r.n}, nil
	case "^":
		return value{n: l.n ^ r.n}, nil
	case "&":
		return value{n: l.n & r.n}, nil
	case "+":
		return value{n: l.n + r.n}, nil
	case "-":
		return value{n: l.n - r.n}, nil
	case "*":
		return value{n: l.n * r.n}, nil
	}
	if (op == "<<" || op == ">>") && r.n >= 0 && r.n < 64 {
		if op == "<<" {
			return value{n: l.n << r.n}, nil
		}
		return value{n: l.n >> r.n}, nil
	}
	// For positive numbers division is the same as in C.
	if (op == "/" && r.n != 0 && l.n%r.n == 0 || op == "//" || op == "%") && r.n > 0 && l.n >= 0 {
		if op == "%" {
			return value{n: l.n % r.n}, nil
		}
		return value{n: l.n / r.n}, nil
	}
	return value{}, p.bad()
}

func (p *python) unary() (v value, err error) {
	t := p.peek()
	p.pos++
	switch {
	case t == "-":
		v, err = p.unary()
		return value{n: -v.n}, err
	case t == "~":
		v, err = p.unary()
		return value{n: ^v.n}, err
	case t == "(":
		if v, err = p.or(); err == nil && !p.take(")") {
			err = p.bad()
		}
		return v, err
	case t == "":
		return v, p.bad()
	case t[0] == '\'':
		t = t[1:]
		return value{str: &t}, nil
	case t[0] >= '0' && t[0] <= '9':
		if v.n, err = strconv.ParseInt(t, 0, 64); err != nil || p.peek() == "." {
			err = p.bad()
		}
		return v, err
	case wordByte(t[0]) && p.peek() != "(":
		return p.get(t)
	}
	return v, p.bad()
}
