package onload_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// portUser dials and listens, by onload or by the kernel, in one namespace.
type portUser struct {
	dial   func(network, local, remote string, hook hook) (net.Conn, error)
	listen func(network, address string, hook hook) (net.Listener, error)

	listenPacket func(network, address string, hook hook) (net.PacketConn, error)
}

type hook = func(network, address string, c syscall.RawConn) error

// portUsers returns onload and the kernel as users of p.A's ports.
func portUsers(t *testing.T, p *lab.Pair) map[string]portUser {
	e := vethEngine(t, p.A, onload.Config{})
	local := func(network, address string) (net.Addr, error) {
		if strings.HasPrefix(network, "udp") {
			return net.ResolveUDPAddr(network, address)
		}
		return net.ResolveTCPAddr(network, address)
	}
	return map[string]portUser{
		"onload": {
			func(network, from, to string, h hook) (net.Conn, error) {
				a, err := local(network, from)
				if err != nil {
					return nil, err
				}
				c, err := (&onload.Dialer{Engine: e, LocalAddr: a, Control: h, Timeout: time.Minute}).Dial(network, to)
				if err == nil && !onload.PathOf(c).Accelerated {
					err = errors.Join(errors.New(onload.PathOf(c).Reason), c.Close())
				}
				return c, err
			},
			func(network, address string, h hook) (net.Listener, error) {
				return (&onload.ListenConfig{Engine: e, Control: h}).Listen(context.Background(), network, address)
			},
			func(network, address string, h hook) (net.PacketConn, error) {
				return (&onload.ListenConfig{Engine: e, Control: h}).ListenPacket(context.Background(), network, address)
			},
		},
		"kernel": {
			func(network, from, to string, h hook) (c net.Conn, err error) {
				a, err := local(network, from)
				if err != nil {
					return nil, err
				}
				err = p.A.Do(func() error {
					c, err = (&net.Dialer{LocalAddr: a, Control: h, Timeout: time.Minute}).Dial(network, to)
					return err
				})
				return c, err
			},
			func(network, address string, h hook) (l net.Listener, err error) {
				err = p.A.Do(func() error {
					l, err = (&net.ListenConfig{Control: h}).Listen(context.Background(), network, address)
					return err
				})
				return l, err
			},
			func(network, address string, h hook) (l net.PacketConn, err error) {
				err = p.A.Do(func() error {
					l, err = (&net.ListenConfig{Control: h}).ListenPacket(context.Background(), network, address)
					return err
				})
				return l, err
			},
		},
	}
}

// TestDialThenListen: whether a listener gets the port of a connection that is
// there already depends on what both share, as in the kernel. Listeners of Go have
// SO_REUSEADDR anyway.
func TestDialThenListen(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	far := p.B.Addr4.String() + ":" + serve(t, p.B, p.B.Addr4.String()+":0")
	hooks := map[string]hook{
		"nothing":      control(),
		"SO_REUSEADDR": control([3]int{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1}),
		"SO_REUSEPORT": control([3]int{unix.SOL_SOCKET, unix.SO_REUSEPORT, 1}),
	}
	results := map[string]map[string]error{}
	for name, u := range portUsers(t, p) {
		results[name] = map[string]error{}
		for dialled, dial := range hooks {
			for listening, listen := range hooks {
				c, err := u.dial("tcp", p.A.Addr4.String()+":0", far, dial)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				l, err := u.listen("tcp", c.LocalAddr().String(), listen)
				results[name][fmt.Sprintf("dial with %s, listen with %s", dialled, listening)] = err
				if err == nil {
					echo(t, l, p.B.Dial, p.A.Addr4.String())
					l.Close()
				}
				if _, err := c.Write([]byte("x")); err != nil {
					t.Errorf("%s: the connection: %v", name, err)
				}
				c.Close()
			}
		}
	}
	for c, want := range results["kernel"] {
		if got := results["onload"][c]; errors.Is(got, syscall.EADDRINUSE) != errors.Is(want, syscall.EADDRINUSE) || (got == nil) != (want == nil) {
			t.Errorf("%s: %v, the kernel says %v", c, got, want)
		}
	}
}

// TestDialThenListenUDP: the port of a connected UDP socket is refused to others, as
// by the kernel. It stays so where both share it, which the kernel would allow (README,
// limits): the port is steered to the stack whole.
func TestDialThenListenUDP(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	far := p.B.Addr4.String() + ":9"
	hooks := map[string]hook{
		"nothing":      control(),
		"SO_REUSEADDR": control([3]int{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1}),
		"SO_REUSEPORT": control([3]int{unix.SOL_SOCKET, unix.SO_REUSEPORT, 1}),
	}
	results := map[string]map[string]error{}
	shared := map[string]bool{}
	for name, u := range portUsers(t, p) {
		results[name] = map[string]error{}
		for dialled, dial := range hooks {
			for listening, listen := range hooks {
				for _, address := range []string{p.A.Addr4.String(), "0.0.0.0", ""} {
					c, err := u.dial("udp", p.A.Addr4.String()+":0", far, dial)
					if err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					_, port, _ := net.SplitHostPort(c.LocalAddr().String())
					l, err := u.listenPacket("udp", address+":"+port, listen)
					what := fmt.Sprintf("dial with %s, listen on %q with %s", dialled, address, listening)
					results[name][what] = err
					shared[what] = dialled == listening && dialled != "nothing"
					if err == nil {
						l.Close()
					}
					c.Close()
				}
			}
		}
	}
	for what, want := range results["kernel"] {
		if (want == nil) != shared[what] || want != nil && !errors.Is(want, syscall.EADDRINUSE) {
			t.Errorf("the kernel: %s: %v", what, want)
		}
		if got := results["onload"][what]; !errors.Is(got, syscall.EADDRINUSE) {
			t.Errorf("onload: %s: %v", what, got)
		}
	}
}

// TestDialPortOfNoAddress: a dial from ":port" wants the port of every address,
// but once connected has it of its own only.
func TestDialPortOfNoAddress(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	far := p.B.Addr4.String() + ":" + serve(t, p.B, p.B.Addr4.String()+":0")
	far6 := "[" + p.B.Addr6.String() + "]:" + serve(t, p.B, "["+p.B.Addr6.String()+"]:0")
	// bind takes the port of loopback for the kernel.
	bind := func(network, port string) (c interface{ Close() error }, err error) {
		err = p.A.Do(func() error {
			if network == "udp" {
				c, err = net.ListenPacket("udp4", "127.0.0.1:"+port)
			} else {
				c, err = net.Listen("tcp4", "127.0.0.1:"+port)
			}
			return err
		})
		return c, err
	}
	for name, u := range portUsers(t, p) {
		for network, remotes := range map[string][]string{"tcp": {far, far6}, "udp": {far, far6}} {
			for i, remote := range remotes {
				port := fmt.Sprint(20000 + i)
				c, err := bind(network, port)
				if err != nil {
					t.Fatal(err)
				}
				if d, err := u.dial(network, ":"+port, remote, nil); !errors.Is(err, syscall.EADDRINUSE) {
					t.Errorf("%s: %s to %s from a port in use: %v, %v", name, network, remote, d, err)
				}
				c.Close()
				d, err := u.dial(network, ":"+port, remote, nil)
				if err != nil {
					t.Errorf("%s: %s to %s: %v", name, network, remote, err)
					continue
				}
				if c, err = bind(network, port); err != nil {
					t.Errorf("%s: %s: loopback's port while there is a connection to %s: %v", name, network, remote, err)
				} else {
					c.Close()
				}
				if tc, ok := d.(interface{ SetLinger(int) error }); ok {
					tc.SetLinger(0) // no TIME-WAIT
				}
				d.Close()
			}
		}
	}
}
