package onload

import (
	"sync/atomic"
	"testing"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/internal/engine"
)

// lookups counts the routes that are asked for.
type lookups struct {
	control.Network
	n atomic.Int64
}

func (l *lookups) Route(f control.Flow) (control.Route, error) {
	l.n.Add(1)
	return l.Network.Route(f)
}

// TestDialRoutesOnce: a Dial looks its route up once. The result goes down with the
// decision.
func TestDialRoutesOnce(t *testing.T) {
	l := new(lookups)
	quiet := engine.MemoryConfig{Config: engine.Config{Logger: zap.NewNop()}}
	watched := quiet
	watched.Watch = func(n control.Network) control.Network { l.Network = n; return l }
	a, b, err := engine.NewMemoryPair(watched, quiet)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	defer b.Close()
	client, server := &Engine{in: a}, &Engine{in: b}
	for _, c := range []struct{ network, addr string }{
		{"tcp", "10.0.0.2:80"}, {"tcp", "[fd00::2]:80"}, {"udp", "10.0.0.2:80"}, {"udp", "[fd00::2]:80"},
	} {
		if c.network == "tcp" {
			ln, err := server.Listen(c.network, c.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
		}
		for _, local := range []bool{false, true} {
			d := Dialer{Engine: client}
			if local {
				d.LocalAddr = map[string]Addr{
					"tcp10": &TCPAddr{IP: IPv4(10, 0, 0, 1)}, "tcp[f": &TCPAddr{IP: ParseIP("fd00::1")},
					"udp10": &UDPAddr{IP: IPv4(10, 0, 0, 1)}, "udp[f": &UDPAddr{IP: ParseIP("fd00::1")},
				}[c.network+c.addr[:2]]
			}
			before := l.n.Load()
			conn, err := d.Dial(c.network, c.addr)
			if err != nil {
				t.Fatal(err)
			}
			if n := l.n.Load() - before; n != 1 {
				t.Errorf("dialling %s %s from %v looked up %d routes, want 1", c.network, c.addr, d.LocalAddr, n)
			}
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
