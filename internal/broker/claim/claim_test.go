package claim

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
)

// childEnv names the case that a child process makes the socket of.
const childEnv = "ONLOAD_TEST_CLAIM"

func TestMain(m *testing.M) {
	if name := os.Getenv(childEnv); name != "" {
		child(name)
		return
	}
	os.Exit(m.Run())
}

// passed has a user without capabilities make the socket of a case, and returns it. The
// user goes on with what the case does then when next is called, and has ended when it
// returns.
func passed(t *testing.T, ns *lab.NS, name string) (fd int, next func()) {
	t.Helper()
	ours, theirs := socketpair(t)
	c := ns.Nobody(t, nil, 0)
	c.Env = append(os.Environ(), childEnv+"="+name)
	c.Stderr = os.Stderr
	f := os.NewFile(uintptr(theirs), "pair")
	c.ExtraFiles = append(c.ExtraFiles, f)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	next = func() {
		unix.Close(ours)
		if err := c.Wait(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	fd, err := receive(ours)
	if err != nil {
		next()
		t.Fatal(err)
	}
	return fd, next
}

func socketpair(t *testing.T) (ours, theirs int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fds[0], fds[1]
}

func receive(from int) (fd int, err error) {
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unix.Recvmsg(from, make([]byte, 1), oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, err
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) != 1 {
		return -1, errors.New("the child passed nothing")
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil {
		return -1, err
	}
	return fds[0], nil
}

func newNS(t *testing.T) (ns *lab.NS, cookie uint64) {
	t.Helper()
	lab.NeedRoot(t)
	ns, err := lab.NewNS("claim")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	if err := ns.AddAddr(netip.MustParsePrefix("fe80::1/64")); err != nil {
		t.Fatal(err)
	}
	if err := ns.Do(func() (err error) { cookie, err = NamespaceCookie(); return err }); err != nil {
		t.Fatal(err)
	}
	return ns, cookie
}

const nobody = 65534 // the user of passed

func proveIn(ns *lab.NS, fd int, cookie uint64) (c *Claim, err error) {
	err = ns.Do(func() error { c, err = Prove(fd, cookie, nobody); return err })
	return c, err
}

func TestProve(t *testing.T) {
	ns, cookie := newNS(t)
	for name, want := range map[string]struct {
		proto uint8
		at    string
	}{
		"tcp":                                  {6, "127.0.0.1:7000"},
		"tcp of no number":                     {6, "127.0.0.1:0"},
		"tcp any":                              {6, "0.0.0.0:7000"},
		"tcp both":                             {6, "invalid IP:7000"},
		"tcp6 only":                            {6, ":::7000"},
		"tcp mapped":                           {6, "127.0.0.1:7000"},
		"tcp listens":                          {6, "127.0.0.1:7000"},
		"tcp listens, no number, SO_REUSEADDR": {6, "invalid IP:0"},
		"mptcp listens":                        {6, "127.0.0.1:7000"},
		"udp":                                  {17, "127.0.0.1:7000"},
		"udp6":                                 {17, "::1:7000"},
		"udp locked":                           {17, "127.0.0.1:0"},
		"udp was connected":                    {17, "127.0.0.1:7000"},
	} {
		t.Run(name, func(t *testing.T) {
			fd, next := passed(t, ns, name)
			c, err := proveIn(ns, fd, cookie)
			if err != nil {
				next()
				t.Fatal(err)
			}
			at := c.Local
			if !strings.HasSuffix(want.at, ":7000") {
				at = netip.AddrPortFrom(at.Addr(), 0)
			}
			if got := fmt.Sprintf("%v:%d", at.Addr(), at.Port()); c.Proto != want.proto || got != want.at {
				t.Errorf("protocol %d, %v", c.Proto, got)
			}
			next() // the process has ended, and the claim keeps the port
			if err := ns.Do(func() error { return tryBind(c, false) }); err != unix.EADDRINUSE {
				t.Errorf("the claimed port: %v", err)
			}
			if err := ns.Do(func() error { return tryBind(c, true) }); err != unix.EADDRINUSE {
				t.Errorf("the claimed port, with SO_REUSEADDR: %v", err)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			if err := ns.Do(func() error { return tryBind(c, false) }); err != nil {
				t.Errorf("the port, given back: %v", err)
			}
		})
	}
}

// tryBind binds a socket to c's port, and listens on one of TCP.
func tryBind(c *Claim, reuse bool) error {
	typ := unix.SOCK_STREAM
	if c.Proto == unix.IPPROTO_UDP {
		typ = unix.SOCK_DGRAM
	}
	var sa unix.Sockaddr = &unix.SockaddrInet6{Port: int(c.Local.Port()), Addr: c.Local.Addr().As16()}
	family := unix.AF_INET6
	if a := c.Local.Addr(); a.Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Port: int(c.Local.Port()), Addr: a.As4()}
	} else if !a.IsValid() {
		sa = &unix.SockaddrInet6{Port: int(c.Local.Port())}
	}
	fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if reuse {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return err
		}
	}
	if err := unix.Bind(fd, sa); err != nil || typ == unix.SOCK_DGRAM {
		return err
	}
	return unix.Listen(fd, 1)
}

func TestRefused(t *testing.T) {
	ns, cookie := newNS(t)
	for name, want := range map[string]unix.Errno{
		"unbound":              unix.EINVAL,
		"unix":                 unix.EPROTONOSUPPORT,
		"a pipe":               unix.EPROTONOSUPPORT,
		"netlink":              unix.EPROTONOSUPPORT,
		"udplite":              unix.EPROTONOSUPPORT,
		"udp of no number":     unix.EINVAL,
		"udp connected":        unix.EISCONN,
		"udp shared":           unix.EADDRINUSE,
		"udp SO_REUSEPORT":     unix.EADDRINUSE,
		"tcp connected":        unix.EISCONN,
		"tcp being connected":  unix.EISCONN,
		"tcp of a device":      unix.EINVAL,
		"tcp SO_REUSEPORT":     unix.EADDRINUSE,
		"tcp lost its port":    unix.EADDRINUSE,
		"tcp lost, other's":    unix.EADDRINUSE,
		"tcp link-local":       unix.EINVAL,
		"tcp of another netns": unix.EXDEV,
		"udp of another netns": unix.EXDEV,
	} {
		t.Run(name, func(t *testing.T) {
			from := ns
			if strings.HasSuffix(name, " of another netns") {
				from, _ = newNS(t)
			}
			fd, next := passed(t, from, name)
			defer next()
			c, err := proveIn(ns, fd, cookie)
			var e *Error
			if !errors.Is(err, want) || !errors.As(err, &e) {
				t.Errorf("%v instead of %v", err, want)
			}
			if err == nil {
				c.Close()
			}
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != unix.EBADF {
				t.Errorf("the descriptor is open: %v", err)
			}
		})
	}
}

// TestLowPort: the capabilities of the unit file are enough for ports below 1024.
func TestLowPort(t *testing.T) {
	ns, cookie := newNS(t)
	unit, err := os.ReadFile("../../../deploy/onload-broker.service")
	if err != nil {
		t.Fatal(err)
	}
	_, line, _ := strings.Cut(string(unit), "CapabilityBoundingSet=")
	line, _, _ = strings.Cut(line, "\n")
	var caps uint64
	for _, name := range strings.Fields(line) {
		c, ok := map[string]int{
			"CAP_NET_ADMIN": unix.CAP_NET_ADMIN, "CAP_NET_RAW": unix.CAP_NET_RAW, "CAP_BPF": unix.CAP_BPF, "CAP_PERFMON": unix.CAP_PERFMON,
			"CAP_SYS_ADMIN": unix.CAP_SYS_ADMIN, "CAP_IPC_LOCK": unix.CAP_IPC_LOCK, "CAP_NET_BIND_SERVICE": unix.CAP_NET_BIND_SERVICE,
		}[name]
		if !ok {
			t.Fatalf("an unknown capability: %s", name)
		}
		caps |= 1 << c
	}
	for _, listens := range []bool{false, true} {
		fd := -1
		err = ns.Do(func() (err error) {
			if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err == nil {
				err = unix.Bind(fd, at(80))
			}
			if err == nil && listens {
				err = unix.Listen(fd, 1)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		var c *Claim
		err = ns.Do(func() error {
			hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
			var all, some [2]unix.CapUserData
			if err := unix.Capget(&hdr, &all[0]); err != nil {
				return err
			}
			some = all
			some[0].Effective, some[1].Effective = uint32(caps), uint32(caps>>32)
			if err := unix.Capset(&hdr, &some[0]); err != nil {
				return err
			}
			c, err = Prove(fd, cookie, nobody)
			return errors.Join(err, unix.Capset(&hdr, &all[0]))
		})
		if err != nil {
			t.Fatalf("listens %v: %v", listens, err)
		}
		c.Close()
	}
}

// TestListensInVain: a socket that has lost its port to another process, and tries to listen
// all the time, proves it at no moment.
func TestListensInVain(t *testing.T) {
	ns, cookie := newNS(t)
	fd, next := passed(t, ns, "tcp lost, other's, no second, again and again")
	defer next()
	defer unix.Close(fd)
	for range 1000 {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		c, err := proveIn(ns, dup, cookie)
		if err == nil {
			c.Close()
			t.Fatal("the port of another socket is proven")
		}
	}
}

// TestBacklog: a socket that listens has the same backlog afterwards.
func TestBacklog(t *testing.T) {
	ns, cookie := newNS(t)
	for _, name := range []string{"tcp listens", "mptcp listens"} {
		fd, next := passed(t, ns, name)
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		c, err := proveIn(ns, dup, cookie)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		i, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil || i.Sacked != 10 {
			t.Errorf("%s: a backlog of %d, %v", name, i.Sacked, err)
		}
		unix.Close(fd)
		c.Close()
		next()
	}
}

// TestShare: a port that is shared can be listened on again. The new listener ends that; so does
// Unshare, which finds others there.
func TestShare(t *testing.T) {
	ns, cookie := newNS(t)
	fd, next := passed(t, ns, "tcp")
	c, err := proveIn(ns, fd, cookie)
	next()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	listener := func() (fd int, err error) {
		err = ns.Do(func() error {
			if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
				return err
			}
			if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
				return err
			}
			if err := unix.Bind(fd, &unix.SockaddrInet4{Port: 7000, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
				return err
			}
			return unix.Listen(fd, 1)
		})
		return fd, err
	}
	if _, err := listener(); err != unix.EADDRINUSE {
		t.Errorf("before Share: %v", err)
	}
	if err := c.Share(); err != nil {
		t.Fatal(err)
	}
	l, err := listener()
	if err != nil {
		t.Fatal("after Share:", err)
	}
	if err := ns.Do(c.Unshare); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("Unshare while a stranger listens: %v", err)
	}
	if err := ns.Do(func() error { return c.Renew(l, cookie) }); err != nil {
		t.Error("Renew:", err)
	}
	unix.Close(l)
	if _, err := listener(); err != unix.EADDRINUSE {
		t.Errorf("after Renew: %v", err)
	}
	if err := c.Share(); err != nil {
		t.Fatal(err)
	}
	other, next := passed(t, ns, "udp")
	if err := ns.Do(func() error { return c.Renew(other, cookie) }); !errors.Is(err, unix.EINVAL) {
		t.Errorf("Renew by another socket: %v", err)
	}
	next()
	if err := ns.Do(c.Unshare); err != nil {
		t.Error("Unshare:", err)
	}
	if _, err := listener(); err != unix.EADDRINUSE {
		t.Errorf("after Unshare: %v", err)
	}
	if err := c.Renew(-1, cookie); err != nil {
		t.Error("Renew without Share:", err)
	}
}

// TestKeptFromItsOwner: a process that does what it can to rid the passed socket of its
// port, or to let others in, changes nothing.
func TestKeptFromItsOwner(t *testing.T) {
	ns, cookie := newNS(t)
	for _, name := range []string{
		"tcp, then it goes", "tcp shared, then it goes", "tcp of no number, then it goes", "tcp listens, then it goes", "udp, then it goes", "udp locked, then it goes",
	} {
		t.Run(name, func(t *testing.T) {
			fd, next := passed(t, ns, name)
			c, err := proveIn(ns, fd, cookie)
			if errors.Is(err, unix.EADDRINUSE) && strings.HasPrefix(name, "tcp shared") {
				next()
				return // kernels differ in whether others could bind it from now on
			}
			if err != nil {
				next()
				t.Fatal(err)
			}
			defer c.Close()
			next()
			if err := ns.Do(func() error { return tryBind(c, c.Proto == unix.IPPROTO_TCP) }); err != unix.EADDRINUSE {
				t.Errorf("a stranger binds: %v", err)
			}
		})
	}
}
