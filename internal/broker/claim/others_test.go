package claim

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
)

// boundAt is a socket of this process that is bound, and does nothing.
func boundAt(t *testing.T, ns *lab.NS, port int) (fd int) {
	t.Helper()
	err := ns.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(fd, at(port))
	})
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// TestConnectionsOfAnother: where connections go on of a listener of another user, which has
// closed, the port is nobody's to steer. When they have ended it can be had.
func TestConnectionsOfAnother(t *testing.T) {
	ns, cookie := newNS(t)
	for name, at := range map[string]string{"tcp listens, SO_REUSEADDR": "[::]:7000", "tcp, SO_REUSEADDR no more": "127.0.0.1:7000"} {
		t.Run(name+" beside "+at, func(t *testing.T) {
			l, err := ns.Listen("tcp", at)
			if err != nil {
				t.Fatal(err)
			}
			client, err := ns.Dial("tcp", "127.0.0.1:7000")
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			server, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			l.Close()
			defer unix.Close(boundAt(t, ns, 7009)) // of root's, too, and elsewhere
			prove := func(uid uint32) error {
				fd, next := passed(t, ns, name)
				defer next()
				var c *Claim
				err := ns.Do(func() (err error) { c, err = Prove(fd, cookie, uid); return err })
				if err == nil {
					err = c.Close()
				}
				return err
			}
			var e *Error
			if err := prove(nobody); !errors.Is(err, unix.EADDRINUSE) || !errors.As(err, &e) {
				t.Errorf("while a connection of root's goes on: %v", err)
			}
			if err := prove(0); err != nil {
				t.Errorf("while a connection of the user's own goes on: %v", err)
			}
			for _, c := range []net.Conn{server, client} { // the server's end is the one in TIME-WAIT
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			}
			err = prove(nobody)
			for end := time.Now().Add(time.Minute); err != nil && time.Now().Before(end); {
				err = prove(nobody)
			}
			if err != nil {
				t.Errorf("when it has ended: %v", err)
			}
		})
	}
}

// TestEachFamily: a port of IPv4 and the same one of IPv6 alone are two, also while the broker
// holds the first one.
func TestEachFamily(t *testing.T) {
	ns, cookie := newNS(t)
	both := []string{"tcp any, listens", "tcp6 only, listens"}
	for i := range both {
		first, second := both[i], both[1-i]
		t.Run(second+" after "+first, func(t *testing.T) {
			for _, name := range []string{first, second} {
				fd, next := passed(t, ns, name)
				defer next()
				c, err := proveIn(ns, fd, cookie)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				defer c.Close()
			}
		})
	}
}

func TestMeet(t *testing.T) {
	a := func(s string) netip.Addr {
		if s == "" {
			return netip.Addr{}
		}
		return netip.MustParseAddr(s)
	}
	for _, x := range []struct {
		a, b string
		want bool
	}{
		{"", "192.0.2.1", true}, {"", "2001:db8::1", true}, {"", "", true}, {"", "::", true},
		{"0.0.0.0", "192.0.2.1", true}, {"0.0.0.0", "2001:db8::1", false}, {"0.0.0.0", "::", false},
		{"::", "2001:db8::1", true}, {"::", "192.0.2.1", false},
		{"192.0.2.1", "192.0.2.1", true}, {"192.0.2.1", "192.0.2.2", false},
	} {
		if meet(a(x.a), a(x.b)) != x.want || meet(a(x.b), a(x.a)) != x.want {
			t.Errorf("%q and %q meet: not %v", x.a, x.b, x.want)
		}
	}
}

// TestConnectionOfDevice: a connection of a socket that is bound to the interface is seen, too.
func TestConnectionOfDevice(t *testing.T) {
	ns, cookie := newNS(t)
	dev := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "dev"}, PeerName: "peer"}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(192, 0, 2, 1).To4(), Mask: net.CIDRMask(24, 32)}}
	nl := ns.Netlink()
	if err := nl.LinkAdd(dev); err != nil {
		t.Fatal(err)
	}
	peer, err := nl.LinkByName("peer")
	if err != nil {
		t.Fatal(err)
	}
	k, err := nl.LinkByName("dev")
	if err != nil {
		t.Fatal(err)
	}
	index := k.Attrs().Index
	silent := &netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: net.IPv4(192, 0, 2, 2), HardwareAddr: net.HardwareAddr{2, 0, 0, 0, 0, 2}}
	if err := errors.Join(nl.LinkSetUp(k), nl.LinkSetUp(peer), nl.AddrAdd(k, addr), nl.NeighSet(silent)); err != nil {
		t.Fatal(err)
	}
	err = ns.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return err
		}
		t.Cleanup(func() { unix.Close(fd) })
		err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.BindToDevice(fd, "dev"),
			unix.Bind(fd, &unix.SockaddrInet4{Port: 7000, Addr: [4]byte{192, 0, 2, 1}}))
		if err != nil {
			return err
		}
		// It asks for good: nobody is there.
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{192, 0, 2, 2}}); err != unix.EINPROGRESS {
			return errors.Join(errors.New("connect"), err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		devices []int
		want    error
	}{{[]int{index}, unix.EADDRINUSE}, {[]int{1<<31 - 2}, nil}, {nil, nil}} {
		fd, next := passed(t, ns, "tcp any, SO_REUSEADDR no more")
		var c *Claim
		err := ns.Do(func() (err error) { c, err = Prove(fd, cookie, nobody, x.devices...); return err })
		if !errors.Is(err, x.want) {
			t.Errorf("devices %v: %v", x.devices, err)
		}
		if err == nil {
			c.Close()
		}
		next()
	}
}
