package repair

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/tcp"
)

// TestPrivilege: without CAP_NET_ADMIN a socket goes on as it was, and the error names
// the capability. So does that of a peer's FIN without CAP_NET_RAW.
func TestPrivilege(t *testing.T) {
	if os.Getenv(childEnv) != "" {
		child()
		return
	}
	w := newWire(t)
	for _, x := range []struct {
		caps  []string
		needs string
	}{{nil, "CAP_NET_ADMIN"}, {[]string{"net_admin"}, "CAP_NET_RAW"}} {
		if testing.Short() && x.caps != nil {
			continue // a test binary takes a second to start with the race detector
		}
		fd, peer := w.connect(false)
		c := w.A.Nobody(t, x.caps, 1<<20, "-test.run=^TestPrivilege$")
		c.Env = append(os.Environ(), childEnv+"=1")
		c.ExtraFiles = append(c.ExtraFiles, os.NewFile(uintptr(fd), "connection"))
		out, err := c.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "said: ") || !strings.Contains(string(out), x.needs) {
			t.Errorf("with %v: %v, %s; want an error that names %s", x.caps, err, out, x.needs)
		}
		if _, err := peer.Write([]byte("x")); err != nil { // it is the connection that the child still reads
			t.Error(err)
		}
		_ = c.ExtraFiles[1].Close()
	}
}

const childEnv = "ONLOAD_TEST_REPAIR_CHILD"

func child() {
	const fd = 4
	if _, err := Dump(fd); err != nil {
		fmt.Println("said:", err, errors.Is(err, unix.EPERM))
		return
	}
	if err := Undump(fd); err != nil {
		fmt.Println("undump:", err)
	}
	a := netip.MustParseAddrPort("127.0.0.1:1")
	_, err := Restore(&tcp.Snapshot{Local: a, Remote: a, State: tcp.CloseWait, RecvFIN: true}, nil)
	fmt.Println("said:", err)
}

// TestRefused: what cannot be restored leaves nothing behind.
func TestRefused(t *testing.T) {
	w := newWire(t)
	fd, peer := w.connect(true)
	var c *tcp.Snapshot
	if err := w.A.Do(func() (err error) {
		if c, err = Dump(fd); err == nil {
			err = Undump(fd)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	no := func(what string, change func(*tcp.Snapshot), want error) {
		t.Helper()
		d := *c
		change(&d)
		before := descriptors(t)
		if err := w.A.Do(func() error { _, err := Restore(&d, nil); return err }); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
		if now := descriptors(t); now != before {
			t.Errorf("%s: %d descriptors, were %d", what, now, before)
		}
	}
	no("the connection is there", func(*tcp.Snapshot) {}, unix.EADDRNOTAVAIL)
	no("a handshake", func(d *tcp.Snapshot) { d.State = tcp.SynReceived }, tcp.ErrState)
	no("an address of another host", func(d *tcp.Snapshot) { d.Local = d.Remote }, unix.EADDRNOTAVAIL)
	no("two families", func(d *tcp.Snapshot) { d.Remote = netip.MustParseAddrPort("10.77.1.2:1") }, unix.EAFNOSUPPORT)
	// The window is read last of all.
	no("no window", func(d *tcp.Snapshot) {
		d.Local = netip.AddrPortFrom(d.Local.Addr(), d.Local.Port()^1)
		d.SndWL1 = d.RcvAdv + 1<<30
	}, unix.EINVAL)

	// Undump has it go on.
	ours := w.conn(fd)
	go func() { _, _ = ours.Write(count(0, 1000)); _ = ours.CloseWrite() }()
	wantStream(t, "the peer", peer, 1000)
}

func descriptors(t *testing.T) int {
	l, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(l)
}

// TestHeldPort: the port of the connection is held by a socket that listens, or by one
// that was only bound; and once the connection is over the port is free.
func TestHeldPort(t *testing.T) {
	w := newWire(t)
	fd, peer := w.connect(false)
	hear := w.deaf(w.A)
	var c *tcp.Snapshot
	if err := w.A.Do(func() (err error) {
		if c, err = Dump(fd); err == nil {
			err = Drop(fd)
		}
		_ = unix.Close(fd)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	l, err := w.A.Listen("tcp", fmt.Sprint(":", c.Local.Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := w.A.Do(func() (err error) { fd, err = Restore(c, nil); return err }); err != nil {
		t.Fatal(err)
	}
	hear()
	ours := w.conn(fd)
	go func() { _, _ = ours.Write(count(0, 1000)); _ = ours.CloseWrite() }()
	wantStream(t, "the peer", peer, 1000)
}

// TestFilter: a program's own filter could not be put back.
func TestFilter(t *testing.T) {
	w := newWire(t)
	fd, _ := w.connect(false)
	defer unix.Close(fd)
	all := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 18}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &all}); err != nil {
		t.Fatal(err)
	}
	if err := w.A.Do(func() error { _, err := Dump(fd); return err }); !errors.Is(err, unix.EBUSY) {
		t.Errorf("%v, want EBUSY", err)
	}
}
