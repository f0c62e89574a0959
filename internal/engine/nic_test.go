package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/internal/control"
	"github.com/onload-go/onload/internal/neigh"
	"github.com/onload-go/onload/internal/stack"
	"github.com/onload-go/onload/ip"
	"github.com/onload-go/onload/ring"
	"github.com/onload-go/onload/tcp"
)

// simNIC is one end of a link in memory, as a NIC that no kernel stands behind.
type simNIC struct {
	*sim.Device
	mac [6]byte
}

func (d simNIC) MAC() [6]byte { return d.mac }

const nicName = "0000:01:00.0"

func nicMAC(n byte) [6]byte { return [6]byte{2, 0, 0, 0, 0, n} }

// nics are two engines, each with one NIC, on one link.
func nics(t *testing.T, static ...string) (engines []*Engine, errs []error) {
	t.Helper()
	return nicsOver(t, sim.LinkConfig{}, static...)
}

func nicsOver(t *testing.T, link sim.LinkConfig, static ...string) (engines []*Engine, errs []error) {
	t.Helper()
	da, db, err := sim.New(sim.Config{Name: nicName, TakeAll: true}, sim.Config{Name: nicName, TakeAll: true}, link)
	if err != nil {
		t.Fatal(err)
	}
	for n, d := range []*sim.Device{da, db} {
		e := nicEngine(t, simNIC{d, nicMAC(byte(n + 1))}, static[n])
		engines, errs = append(engines, e), append(errs, e.ifs[0].Err)
	}
	return engines, errs
}

// nicEngine is an engine over one NIC, with no kernel beside it.
func nicEngine(t *testing.T, dev nic, static string) *Engine {
	t.Helper()
	c := Config{Interfaces: []string{nicName}, Static: []string{nicName + " " + static}, Logger: zap.NewNop()}
	if err := c.check(); err != nil {
		t.Fatal(err)
	}
	e := newEngine(c)
	e.openNIC = func(string, *ring.Arena) (nic, error) { return dev, nil }
	e.static = control.NewStatic()
	e.static.OnResolve, e.static.OnConfirm, e.static.OnDoubt = e.askHost, e.confirmHost, e.doubtHost
	e.net = e.static
	i := &Interface{Name: nicName, Index: control.FirstStatic}
	e.ifs = append(e.ifs, i)
	o := opener{e: e, sharers: 1}
	if err := o.openStatic(i); err != nil {
		t.Fatal(err)
	}
	o.makeStacks()
	e.settle()
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// echoPort echoes what comes, on all addresses of e.
func echoPort(t *testing.T, e *Engine, port uint16) {
	t.Helper()
	sh := e.Shards(AnyFamily, netip.Addr{})
	l, err := e.Listen(&sh, port, false, &tcp.Config{}, &Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, _, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				b := make([]byte, 4096)
				for {
					n, err := c.Read(b)
					if err != nil {
						c.Close()
						return
					}
					if _, err := c.Write(b[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
}

func dialNIC(e *Engine, to netip.AddrPort) (*stack.TCPConn, error) {
	w, err := e.Way(AnyFamily, Traffic{Proto: ip.ProtoTCP}, netip.AddrPort{}, to)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, why, err := e.DialTCP(ctx, &w, netip.AddrPort{}, to, &tcp.Config{}, &Options{})
	if why != "" {
		err = errors.New(why)
	}
	return c, err
}

// TestNIC: engines over NICs without a kernel find each other and connect, on the link
// and by a gateway; what nobody listens on is refused, who is not there is not found.
func TestNIC(t *testing.T) {
	t.Parallel()
	es, errs := nics(t, "10.0.0.1/24 fd00::1/64 default via 10.0.0.2 default via fd00::2", "10.0.0.2/24 192.0.2.1/32 fd00::2/64 2001:db8::1/128 default via 10.0.0.1")
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	echoPort(t, es[1], 7)
	for _, to := range []string{"10.0.0.2:7", "[fd00::2]:7", "192.0.2.1:7", "[2001:db8::1]:7"} {
		c, err := dialNIC(es[0], netip.MustParseAddrPort(to))
		if err != nil {
			t.Fatalf("%s: %v", to, err)
		}
		want := strings.Repeat(to, 1000)
		go io.WriteString(c, want)
		got := make([]byte, len(want))
		if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
			t.Errorf("%s: %v", to, err)
		}
		c.Close()
		if _, err := dialNIC(es[0], netip.AddrPortFrom(netip.MustParseAddrPort(to).Addr(), 9)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s, port 9: %v", to, err)
		}
	}
	var wg sync.WaitGroup
	for _, to := range []string{"10.0.0.77:7", "[fd00::77]:7"} {
		wg.Go(func() {
			if _, err := dialNIC(es[0], netip.MustParseAddrPort(to)); !errors.Is(err, syscall.EHOSTUNREACH) {
				t.Errorf("%s: %v", to, err)
			}
		})
	}
	wg.Wait()
}

// TestNICAddressTaken: an address that another host has is an error that names it; the
// others work.
func TestNICAddressTaken(t *testing.T) {
	t.Parallel()
	es, errs := nics(t, "10.0.0.1/24 fd00::1/64", "10.0.0.1/24 fd00::2/64")
	if errs[0] != nil {
		t.Fatal(errs[0])
	}
	if err := errs[1]; !errors.Is(err, neigh.ErrDuplicate) || !strings.Contains(fmt.Sprint(err), "10.0.0.1") || !strings.Contains(fmt.Sprint(err), "02 00 00 00 00 01") {
		t.Errorf("the error is %v", err)
	}
	if _, ours := es[1].static.Local(netip.MustParseAddr("10.0.0.1")); ours {
		t.Error("the duplicate is used")
	}
	echoPort(t, es[0], 7)
	c, err := dialNIC(es[1], netip.MustParseAddrPort("[fd00::1]:7"))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// TestStaticRefuses: faults of the description are found before anything is opened.
func TestStaticRefuses(t *testing.T) {
	for _, c := range []struct {
		interfaces []string
		static     []string
		want       string
	}{
		{[]string{nicName}, nil, "has no address"},
		{[]string{nicName}, []string{nicName}, "has no address"},
		{[]string{nicName}, []string{""}, "empty"},
		{[]string{nicName}, []string{"eth0 10.0.0.1/24"}, "no PCI address"},
		{[]string{nicName}, []string{nicName + " 10.0.0.1"}, "neither an address"},
		{[]string{nicName}, []string{nicName + " 127.0.0.1/8"}, "neither an address"},
		{[]string{nicName}, []string{nicName + " 10.0.0.1/24 10.0.0.1/16"}, "twice"},
		{[]string{nicName}, []string{nicName + " 10.0.0.1/24 default via 10.0.1.1"}, "in no subnet"},
		{[]string{nicName}, []string{nicName + " 10.0.0.1/24 default via 10.0.0.1"}, "in no subnet"},
		{[]string{nicName}, []string{nicName + " 10.0.0.1/24 fd00::/8 via 10.0.0.2"}, "different families"},
		{[]string{nicName}, []string{nicName + " 10.0.0.1/24 default via"}, "neither an address"},
		{[]string{nicName}, []string{nicName + " 10.0.0.1/24 dns ns1"}, "no name server"},
		{[]string{nicName}, []string{nicName + " 10.0.0.1/24", nicName + " 10.0.0.2/24"}, "described twice"},
		{[]string{"eth0"}, []string{nicName + " 10.0.0.1/24"}, "not one of the interfaces"},
		{[]string{nicName}, []string{nicName + " tap"}, "neither an address"},
		{[]string{nicName}, []string{nicName + " tap nic0 10.0.0.1/24"}, "the kernel is the host"},
	} {
		err := (&Config{Interfaces: c.interfaces, Static: c.static}).check()
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.static, err, c.want)
		}
	}
	lent := Config{Interfaces: []string{nicName}, Static: []string{nicName + " dhcp slaac"}}
	if err := lent.check(); err != nil {
		t.Error(err)
	}
	if l := lent.staticOf(nicName); !l.dhcp || !l.slaac || len(l.addrs) != 0 {
		t.Errorf("read as %+v", l)
	}
	good := Config{Interfaces: []string{nicName, "eth0"}, Static: []string{nicName + " 10.0.0.1/24 fd00::1/64 default via 10.0.0.2 default via fe80::1 10.9.0.0/16 via 10.0.0.3 dns 10.0.0.53"}}
	if err := good.check(); err != nil {
		t.Error(err)
	}
	if l := good.staticOf(nicName); len(l.addrs) != 2 || len(l.routes) != 3 || len(l.dns) != 1 {
		t.Errorf("read as %+v", l)
	}
}
