package onload_test

import (
	"flag"
	"net"
	"strconv"
	"testing"

	"go.uber.org/zap/zaptest"
	"golang.org/x/net/nettest"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// stacks is Config.Stacks of engines that a test asks for no number of; -stacks=2
// has links of two queues too.
var stacks = 1

func init() {
	flag.Func("stacks", "stacks of each engine, and queues of each link", func(v string) (err error) {
		stacks, err = strconv.Atoi(v)
		lab.DefaultQueues = stacks
		return err
	})
}

// vethEngine returns an engine on the interface of ns, until the test ends.
func vethEngine(t testing.TB, ns *lab.NS, c onload.Config) *onload.Engine {
	t.Helper()
	c.NetNS = ns.Path
	c.Interfaces = []string{ns.If}
	c.Frames = 4096
	c.RingSize = 1024
	if c.Stacks == 0 {
		c.Stacks = stacks
	}
	if c.Logger == nil {
		c.Logger = zaptest.NewLogger(t)
	}
	e, err := onload.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return e
}

// host is what a test needs of one side: a namespace's kernel, or an engine.
type host interface {
	Dial(network, address string) (net.Conn, error)
	Listen(network, address string) (net.Listener, error)
	ListenPacket(network, address string) (net.PacketConn, error)
}

func TestNettestVeth(t *testing.T) {
	for _, mode := range []onload.Mode{onload.ModeNative, onload.ModeGeneric} {
		p := lab.NewPair(t, lab.Options{})
		cfg := onload.Config{Mode: mode}
		a, b := vethEngine(t, p.A, cfg), vethEngine(t, p.B, cfg)
		for _, tt := range []struct {
			name           string
			client, server host
			address        string
		}{
			{"onload to onload", a, b, p.B.Addr4.String()},
			{"onload to onload IPv6", a, b, "[" + p.B.Addr6.String() + "]"},
			{"kernel to onload", p.A, b, p.B.Addr4.String()},
			{"kernel to onload wildcard", p.A, b, ""},
			{"onload to kernel", a, p.B, p.B.Addr4.String()},
			{"local client", b, b, p.B.Addr4.String()},
		} {
			t.Run(mode.String()+"/"+tt.name, func(t *testing.T) {
				nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
					ln, err := tt.server.Listen("tcp", tt.address+":0")
					if err != nil {
						return nil, nil, nil, err
					}
					defer ln.Close()
					_, port, _ := net.SplitHostPort(ln.Addr().String())
					to := tt.address
					if to == "" {
						to = p.B.Addr4.String()
					}
					if c1, err = tt.client.Dial("tcp", to+":"+port); err != nil {
						return nil, nil, nil, err
					}
					if c2, err = ln.Accept(); err != nil {
						return nil, nil, nil, err
					}
					if want := tt.client == host(a); onload.PathOf(c1).Accelerated != want {
						t.Errorf("client: %v, want accelerated: %v", onload.PathOf(c1), want)
					}
					if want := tt.server == host(b) && tt.client != host(b); onload.PathOf(c2).Accelerated != want {
						t.Errorf("server: %v, want accelerated: %v", onload.PathOf(c2), want)
					}
					return c1, c2, func() { c1.Close(); c2.Close() }, nil
				})
			})
		}
	}
}
