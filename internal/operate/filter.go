package operate

import (
	"bufio"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/onload-go/onload/internal/inspect/report"
)

// filter is which sockets ss lists, in ss(8)'s grammar.
type filter struct {
	states map[string]bool // nil: none was named
	match  func(*report.Socket) bool
}

// connected are the states of connections.
var connected = []string{"ESTAB", "SYN-SENT", "SYN-RECV", "FIN-WAIT-1", "FIN-WAIT-2", "CLOSE-WAIT", "LAST-ACK", "CLOSING", "UNKNOWN"}

var everyState = append([]string{"TIME-WAIT", "LISTEN", "UNCONN"}, connected...)

// stateNamed has the states for each name of ss's grammar.
func stateNamed(name string) ([]string, bool) {
	one := map[string]string{
		"established": "ESTAB", "estab": "ESTAB", "syn-sent": "SYN-SENT", "syn-recv": "SYN-RECV", "fin-wait-1": "FIN-WAIT-1", "fin-wait-2": "FIN-WAIT-2",
		"time-wait": "TIME-WAIT", "closed": "UNCONN", "unconnected": "UNCONN", "close-wait": "CLOSE-WAIT", "last-ack": "LAST-ACK",
		"listening": "LISTEN", "listen": "LISTEN", "closing": "CLOSING",
	}
	if s, ok := one[name]; ok {
		return []string{s}, true
	}
	switch name {
	case "all":
		return everyState, true
	case "connected":
		return append([]string{"TIME-WAIT"}, connected...), true
	case "synchronized":
		return slices.DeleteFunc(append([]string{"TIME-WAIT"}, connected...), func(s string) bool { return s == "SYN-SENT" }), true
	case "bucket":
		return []string{"SYN-RECV", "TIME-WAIT"}, true
	case "big":
		return slices.DeleteFunc(slices.Clone(everyState), func(s string) bool { return s == "SYN-RECV" || s == "TIME-WAIT" }), true
	}
	return nil, false
}

// defaults sets the states if the filter names none: connections, or what the flags say.
func (f *filter) defaults(o *ssOptions) {
	if f.states != nil {
		return
	}
	names := connected
	switch {
	case o.all:
		names = everyState
	case o.listening:
		names = []string{"LISTEN", "UNCONN"}
	}
	f.states = map[string]bool{}
	for _, s := range names {
		f.states[s] = true
	}
}

func (f *filter) any(states ...string) bool {
	return slices.ContainsFunc(states, func(s string) bool { return f.states[s] })
}

func (f *filter) matches(x *report.Socket) bool {
	return f.states[x.State] && (f.match == nil || f.match(x))
}

// parseFilter reads the arguments of ss.
func parseFilter(args []string) (*filter, error) {
	p := parser{words: filterWords(strings.Join(args, " "))}
	f := &filter{}
	for {
		w := p.peek()
		if w != "state" && w != "exclude" {
			break
		}
		p.next()
		states, ok := stateNamed(p.peek())
		if !ok {
			return nil, fmt.Errorf("%s: %q is no state of ss's", w, p.peek())
		}
		p.next()
		if f.states == nil {
			f.states = map[string]bool{}
			if w == "exclude" {
				for _, s := range everyState {
					f.states[s] = true
				}
			}
		}
		for _, s := range states {
			f.states[s] = w == "state"
		}
	}
	if p.peek() == "" {
		return f, nil
	}
	var err error
	if f.match, err = p.or(); err != nil {
		return nil, err
	}
	if w := p.peek(); w != "" {
		return nil, fmt.Errorf("filter: %q is not expected there", w)
	}
	return f, nil
}

// filterWords splits at blanks and around parentheses and operators.
func filterWords(s string) (l []string) {
	for _, field := range strings.Fields(s) {
		for field != "" {
			n := 0
			switch field[0] {
			case '(', ')':
				n = 1
			case '=', '!', '<', '>', '&', '|':
				for n < len(field) && n < 2 && strings.IndexByte("=!<>&|", field[n]) >= 0 {
					n++
				}
				if field[0] == '!' && n == 2 && field[1] != '=' {
					n = 1
				}
			default:
				if n = strings.IndexAny(field, "()=!<>&|"); n < 0 {
					n = len(field)
				}
			}
			l, field = append(l, field[:n]), field[n:]
		}
	}
	return l
}

type parser struct{ words []string }

// predicate reports whether a socket is wanted.
type predicate = func(*report.Socket) bool

// peek is the next word, "" at the end.
func (p *parser) peek() string {
	if len(p.words) == 0 {
		return ""
	}
	return p.words[0]
}

func (p *parser) next() (w string) {
	if w = p.peek(); w != "" {
		p.words = p.words[1:]
	}
	return w
}

func (p *parser) take(words ...string) bool {
	if p.peek() == "" || !slices.Contains(words, p.peek()) {
		return false
	}
	p.next()
	return true
}

func (p *parser) or() (predicate, error) {
	a, err := p.and()
	for err == nil && p.take("or", "|", "||") {
		var b predicate
		if b, err = p.and(); err == nil {
			left := a
			a = func(x *report.Socket) bool { return left(x) || b(x) }
		}
	}
	return a, err
}

func (p *parser) and() (predicate, error) {
	a, err := p.not()
	for err == nil {
		if !p.take("and", "&", "&&") && (p.peek() == "" || slices.Contains([]string{")", "or", "|", "||"}, p.peek())) {
			break // two side by side are joined too
		}
		var b predicate
		if b, err = p.not(); err == nil {
			left := a
			a = func(x *report.Socket) bool { return left(x) && b(x) }
		}
	}
	return a, err
}

func (p *parser) not() (predicate, error) {
	switch {
	case p.take("not", "!"):
		a, err := p.not()
		return func(x *report.Socket) bool { return !a(x) }, err
	case p.take("("):
		a, err := p.or()
		if err == nil && !p.take(")") {
			err = errors.New("filter: a ) is missing")
		}
		return a, err
	}
	return p.term()
}

func (p *parser) term() (predicate, error) {
	switch w := p.next(); w {
	case "src", "dst":
		negate := p.take("!=", "ne", "neq")
		if !negate {
			p.take("=", "==", "eq")
		}
		is, err := parseHost(p.next())
		return func(x *report.Socket) bool { return is(endNamed(x, w == "src")) != negate }, err
	case "sport", "dport":
		op := p.next()
		word := p.next()
		compare, ok := map[string]func(a, b uint16) bool{
			"=":  func(a, b uint16) bool { return a == b },
			"!=": func(a, b uint16) bool { return a != b },
			"<":  func(a, b uint16) bool { return a < b },
			">":  func(a, b uint16) bool { return a > b },
			"<=": func(a, b uint16) bool { return a <= b },
			">=": func(a, b uint16) bool { return a >= b },
		}[operator(op)]
		if !ok {
			return nil, fmt.Errorf("filter: %s: %q is no comparison", w, op)
		}
		port, err := parsePort(strings.TrimPrefix(word, ":"))
		return func(x *report.Socket) bool { return compare(endNamed(x, w == "sport").Port, port) }, err
	case "dev", "path":
		negate := p.take("!=", "ne", "neq")
		if !negate {
			p.take("=", "==", "eq")
		}
		name := p.next()
		switch {
		case name == "":
			return nil, fmt.Errorf("filter: %s wants a name", w)
		case w == "path" && name != "kernel" && name != "stack":
			return nil, fmt.Errorf("filter: path is kernel or stack, not %q", name)
		case w == "path":
			return func(x *report.Socket) bool { return (x.Carrier == name) != negate }, nil
		}
		return func(x *report.Socket) bool {
			return slices.Contains(strings.Split(x.Interface, ","), name) != negate
		}, nil
	case "":
		return nil, errors.New("filter: something is missing at the end")
	default:
		return nil, fmt.Errorf("filter: %q: want src, dst, sport, dport, dev or path", w)
	}
}

func endNamed(x *report.Socket, local bool) report.End {
	if local {
		return x.Local
	}
	return x.Peer
}

// operator is the sign of a comparison.
func operator(w string) string {
	switch w {
	case "eq", "==":
		return "="
	case "ne", "neq":
		return "!="
	case "lt":
		return "<"
	case "gt":
		return ">"
	case "le", "leq", "=<":
		return "<="
	case "ge", "geq", "=>":
		return ">="
	}
	return w
}

// parseHost reads ADDRESS[/PREFIX][:PORT], [ADDRESS]..., * or :PORT.
func parseHost(w string) (func(report.End) bool, error) {
	if w == "" {
		return nil, errors.New("filter: an address is missing")
	}
	w = strings.TrimPrefix(strings.TrimPrefix(w, "inet:"), "inet6:")
	address, port, hasPort := w, "", false
	if rest, ok := strings.CutPrefix(w, "["); ok {
		inside, after, closed := strings.Cut(rest, "]")
		if !closed {
			return nil, fmt.Errorf("filter: %q: a ] is missing", w)
		}
		prefix := after
		prefix, port, hasPort = strings.Cut(after, ":")
		address = inside + prefix
	} else if strings.Count(w, ":") == 1 {
		address, port, hasPort = strings.Cut(w, ":")
	}
	number := uint16(0)
	if hasPort && port != "*" {
		var err error
		if number, err = parsePort(port); err != nil {
			return nil, err
		}
	}
	within := func(netip.Addr) bool { return true }
	if address != "" && address != "*" {
		prefix, err := netip.ParsePrefix(address)
		if a, aerr := netip.ParseAddr(address); aerr == nil {
			prefix, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("filter: %q is no address: names are not looked up", address)
		}
		prefix = prefix.Masked()
		within = func(a netip.Addr) bool {
			return a.IsValid() && (prefix.Contains(a.WithZone("")) || prefix.Contains(a.Unmap()))
		}
	}
	return func(e report.End) bool {
		a, _ := netip.ParseAddr(e.Address)
		return (number == 0 || e.Port == number) && within(a)
	}, nil
}

func parsePort(w string) (uint16, error) {
	if n, err := strconv.ParseUint(w, 10, 16); err == nil {
		return uint16(n), nil
	}
	for port, name := range services() {
		if name == w {
			return port.number, nil
		}
	}
	return 0, fmt.Errorf("filter: %q is no port", w)
}

type service struct {
	proto  string
	number uint16
}

// services are the names of ports (services(5)).
var services = sync.OnceValue(func() map[service]string {
	m := map[service]string{}
	f, err := os.Open("/etc/services")
	if err != nil {
		return m
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		text, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(text)
		if len(words) < 2 {
			continue
		}
		number, proto, _ := strings.Cut(words[1], "/")
		if n, err := strconv.ParseUint(number, 10, 16); err == nil && m[service{proto, uint16(n)}] == "" {
			m[service{proto, uint16(n)}] = words[0]
		}
	}
	return m
})

// endText is an end as ss prints it.
func endText(proto string, e report.End, numeric bool) string {
	address := e.Address
	if address == "" {
		address = "*"
	}
	if strings.Contains(address, ":") {
		address = "[" + address + "]"
	}
	port := "*"
	if e.Port != 0 {
		port = strconv.Itoa(int(e.Port))
		if name := services()[service{proto, e.Port}]; name != "" && !numeric {
			port = name
		}
	}
	return plain(address + ":" + port)
}
