package engine

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/onload-go/onload/driver"
	"github.com/onload-go/onload/driver/sim"
)

// TestNICGatewayMoves: connections by a gateway that gets another MAC go on: the
// gateway's announcement is heard, or, where it comes too soon after the one before to be
// believed, retransmissions have the gateway asked for.
func TestNICGatewayMoves(t *testing.T) {
	p, dev := kernelWire(t)
	e := nicEngine(t, dev, "10.0.0.1/24 fd00::1/64 default via 10.0.0.2 default via fd00::2")
	if err := e.ifs[0].Err; err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"198.51.100.1/32", "2001:db8::1/128"} {
		if err := p.B.AddAddr(netip.MustParsePrefix(a)); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"net.ipv4.conf." + p.B.If + ".arp_notify", "net.ipv6.conf." + p.B.If + ".ndisc_notify"} {
		if err := p.B.Sysctl(key, "1"); err != nil {
			t.Fatal(err)
		}
	}
	l, err := p.B.Listen("tcp", ":7")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go echoAll(l)
	talk := func(c io.ReadWriter) {
		t.Helper()
		if _, err := c.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
			t.Fatal(err)
		}
	}
	var conns []io.ReadWriteCloser
	for _, to := range []string{"198.51.100.1:7", "[2001:db8::1]:7"} {
		c, err := dialNIC(e, netip.MustParseAddrPort(to))
		if err != nil {
			t.Fatalf("%s: %v", to, err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		talk(c)
		conns = append(conns, c)
	}
	link, err := p.B.Netlink().LinkByIndex(p.B.Index)
	if err != nil {
		t.Fatal(err)
	}
	moved := [6]byte{2, 0, 0, 0, 0, 8}
	if err := p.B.Netlink().LinkSetHardwareAddr(link, net.HardwareAddr(moved[:])); err != nil {
		t.Fatal(err)
	}
	for i, c := range conns {
		talk(c)
		gateway := netip.MustParseAddr([]string{"10.0.0.2", "fd00::2"}[i])
		until(t, "the new address of "+gateway.String(), func() bool {
			mac, ok := e.static.Neighbor(e.ifs[0].Index, gateway)
			return ok && mac == moved
		})
	}
}

// TestNICLinkDown: while the link is down nothing comes and goes, and a dial hears that no
// route leads there; a connection goes on when the link is up again.
func TestNICLinkDown(t *testing.T) {
	t.Parallel()
	es, errs := nics(t, "10.0.0.1/24", "10.0.0.2/24")
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	echoPort(t, es[1], 7)
	c, err := dialNIC(es[0], netip.MustParseAddrPort("10.0.0.2:7"))
	if err != nil {
		t.Fatal(err)
	}
	dev := es[0].ifs[0].Device.(simNIC)
	dev.SetLink(false)
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := c.Read(make([]byte, 5)); err == nil {
		t.Errorf("%d bytes by a link that is down", n)
	}
	link := es[0].ifs[0].Index
	up := func() bool { l, ok := es[0].static.Link(link); return ok && l.Up && l.Carrier }
	until(t, "the link is down", func() bool { return !up() })
	if _, err := dialNIC(es[0], netip.MustParseAddrPort("10.0.0.2:7")); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("a dial by a link that is down: %v", err)
	}
	if _, ours := es[0].static.Local(netip.MustParseAddr("10.0.0.1")); !ours {
		t.Error("the address is not ours any more")
	}
	dev.SetLink(true)
	until(t, "the link is up", up)
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := io.ReadFull(c, make([]byte, 5)); err != nil {
		t.Error(err)
	}
	roundTrip(t, c)
	d, err := dialNIC(es[0], netip.MustParseAddrPort("10.0.0.2:7"))
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, d)
}

// TestNICUnplugged: when the device is gone or broken under traffic all calls end with an
// error, the engine says why, dials fail, and Close does not hang; the host, which has a
// server to talk to, neither.
func TestNICUnplugged(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		fault error
		want  syscall.Errno
	}{{driver.ErrGone, syscall.ENETDOWN}, {errors.New("the device is reset"), syscall.EIO}} {
		da, db, err := sim.New(sim.Config{Name: nicName, TakeAll: true}, sim.Config{Name: nicName, TakeAll: true}, sim.LinkConfig{})
		if err != nil {
			t.Fatal(err)
		}
		a, b := nicEngine(t, simNIC{da, nicMAC(1)}, "10.0.0.1/24 fd00::1/64"), nicEngine(t, simNIC{db, nicMAC(2)}, "10.0.0.2/24 fd00::2/64")
		echoPort(t, b, 7)
		conn, err := dialNIC(a, netip.MustParseAddrPort("10.0.0.2:7"))
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 2)
		go func() {
			for buf := make([]byte, 32<<10); ; {
				if _, err := conn.Write(buf); err != nil {
					ended <- err
					return
				}
			}
		}()
		go func() {
			_, err := io.Copy(io.Discard, struct{ io.Reader }{conn})
			ended <- err
		}()
		until(t, "traffic", func() bool {
			i, err := conn.Info()
			return err == nil && i.BytesAcked > 1<<20
		})
		da.Break(c.fault)
		for range 2 {
			select {
			case err := <-ended:
				if !errors.Is(err, c.want) {
					t.Errorf("%v: a call ends with %v", c.fault, err)
				}
			case <-time.After(time.Minute):
				t.Fatalf("%v: a call hangs", c.fault)
			}
		}
		if err := a.ifs[0].err(); err == nil {
			t.Errorf("%v: the interface has no fault", c.fault)
		}
		if _, err := dialNIC(a, netip.MustParseAddrPort("10.0.0.2:7")); err == nil {
			t.Errorf("%v: a dial succeeds", c.fault)
		}
		conn.Close()
	}
}

// returnedNIC says when its device is given back.
type returnedNIC struct {
	simNIC
	retired chan struct{}
}

func (d returnedNIC) Retire() int { return 0 }

func (d returnedNIC) Release() error {
	close(d.retired)
	return nil
}

func (d returnedNIC) Detach() error { return errors.ErrUnsupported }

// TestNICReturned: a device that the kernel wants back is given to it while the engine
// is open, and once; also while its link is down, so that nothing changes.
func TestNICReturned(t *testing.T) {
	t.Parallel()
	for _, down := range []bool{false, true} {
		testNICReturned(t, down)
	}
}

func testNICReturned(t *testing.T, down bool) {
	da, _, err := sim.New(sim.Config{Name: nicName, TakeAll: true}, sim.Config{Name: nicName, TakeAll: true}, sim.LinkConfig{})
	if err != nil {
		t.Fatal(err)
	}
	dev := returnedNIC{simNIC{da, nicMAC(1)}, make(chan struct{})}
	e := nicEngine(t, dev, "10.0.0.1/24")
	e.keep()
	if down {
		da.SetLink(false)
		until(t, "the link is down", func() bool { l, _ := e.net.Link(e.ifs[0].Index); return !l.Up })
	}
	da.Break(driver.ErrGone)
	da.SetLink(false)
	select {
	case <-dev.retired:
	case <-time.After(time.Minute):
		t.Fatal("the engine keeps the device")
	}
	e.keeper.wake() // to look again changes nothing
	if err := e.ifs[0].err(); err == nil {
		t.Error("the interface has no fault")
	}
}
