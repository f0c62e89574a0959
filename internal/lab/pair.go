package lab

import (
	"errors"
	"net/netip"
	"testing"
)

// Pair is two namespaces joined by one veth pair.
type Pair struct{ A, B *NS }

// MakePair makes a Pair, which the caller closes.
func MakePair(o Options) (*Pair, error) {
	a, err := NewNS("a")
	if err != nil {
		return nil, err
	}
	b, err := NewNS("b")
	if err != nil {
		a.Close()
		return nil, err
	}
	p := &Pair{a, b}
	if _, _, err := Veth(a, b, o); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// Close closes both namespaces.
func (p *Pair) Close() error { return errors.Join(p.A.Close(), p.B.Close()) }

// NewPair makes a Pair that lasts as long as the test. It calls NeedRoot.
func NewPair(t testing.TB, o Options) *Pair {
	t.Helper()
	NeedRoot(t)
	p, err := MakePair(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// Line is three namespaces in a row: A and C are hosts, R between them
// forwards. A reaches C by the default route, and the other way round.
type Line struct{ A, R, C *NS }

// MakeLine makes a Line, with a veth pair as in o on each side of R. The
// caller closes it.
func MakeLine(o Options) (*Line, error) {
	l := new(Line)
	for _, n := range []struct {
		ns   **NS
		name string
	}{{&l.A, "a"}, {&l.R, "r"}, {&l.C, "c"}} {
		ns, err := NewNS(n.name)
		if err != nil {
			l.Close()
			return nil, err
		}
		*n.ns = ns
	}
	if err := l.join(o); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (l *Line) join(o Options) error {
	for _, key := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
		if err := l.R.Sysctl(key, "1"); err != nil {
			return err
		}
	}
	o.Net = 0
	for _, host := range []*NS{l.A, l.C} {
		la, lr, err := Veth(host, l.R, o)
		if err != nil {
			return err
		}
		if o.NoAddr {
			continue
		}
		if err := la.AddRoute(netip.MustParsePrefix("0.0.0.0/0"), lr.Addr4); err != nil {
			return err
		}
		if err := la.AddRoute(netip.MustParsePrefix("::/0"), lr.Addr6); err != nil {
			return err
		}
	}
	return nil
}

// Close closes the three namespaces.
func (l *Line) Close() error {
	var errs []error
	for _, ns := range []*NS{l.A, l.R, l.C} {
		if ns != nil {
			errs = append(errs, ns.Close())
		}
	}
	return errors.Join(errs...)
}

// NewLine makes a Line that lasts as long as the test. It calls NeedRoot.
func NewLine(t testing.TB, o Options) *Line {
	t.Helper()
	NeedRoot(t)
	l, err := MakeLine(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}
