package broker

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/broker/claim"
	"github.com/onload-go/onload/internal/broker/policy"
	"github.com/onload-go/onload/internal/broker/wire"
	"github.com/onload-go/onload/internal/guardian"
	"github.com/onload-go/onload/internal/lab"
)

// TestAcceptEnds: a listener that is closed says so, to who waits and to who comes later.
func TestAcceptEnds(t *testing.T) {
	l, err := listen(filepath.Join(t.TempDir(), "sock"))
	if err != nil {
		t.Fatal(err)
	}
	errs := make(chan error)
	go func() {
		_, err := l.accept()
		errs <- err
	}()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-errs; !errors.Is(err, os.ErrClosed) {
		t.Errorf("who waits: %v", err)
	}
	if _, err := l.accept(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("who comes later: %v", err)
	}
}

// TestShareGoesOn: a client that shows something else than its new listener does not end a
// Share, at whose end the broker looks who has the port.
func TestShareGoesOn(t *testing.T) {
	lab.NeedRoot(t)
	ns, err := lab.NewNS("share")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	b := &Broker{inNS: ns.Do}
	if err := ns.Do(func() (err error) { b.cookie, err = claim.NamespaceCookie(); return err }); err != nil {
		t.Fatal(err)
	}
	socket := func(typ, reuse int) (fd int) {
		err := ns.Do(func() (err error) {
			if fd, err = unix.Socket(unix.AF_INET, typ|unix.SOCK_CLOEXEC, 0); err != nil {
				return err
			}
			return errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, reuse),
				unix.Bind(fd, &unix.SockaddrInet4{Port: 7000, Addr: [4]byte{127, 0, 0, 1}}))
		})
		if err != nil {
			t.Fatal(err)
		}
		return fd
	}
	h := &held{}
	first := socket(unix.SOCK_STREAM, 0)
	if err := ns.Do(func() (err error) { h.claim, err = claim.Prove(first, b.cookie, 0); return err }); err != nil {
		t.Fatal(err)
	}
	defer h.claim.Close()
	if err := h.claim.Share(); err != nil {
		t.Fatal(err)
	}
	h.sharing = time.AfterFunc(time.Hour, func() {})
	other := socket(unix.SOCK_DGRAM, 0)
	defer unix.Close(other)
	if err := h.again(other, b); err == nil || h.sharing == nil {
		t.Errorf("by another socket: %v", err)
	}
	next := socket(unix.SOCK_STREAM, 1)
	defer unix.Close(next)
	if err := unix.Listen(next, 1); err != nil {
		t.Fatal(err)
	}
	if err := h.again(next, b); err != nil || h.sharing != nil {
		t.Errorf("by the new listener: %v", err)
	}
	if err := ns.Do(h.claim.Unshare); err != nil { // as the timer may do at that moment
		t.Error(err)
	}
}

// TestStartedAgain: a process does not count any more while its peers are told.
func TestStartedAgain(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[1])
	conn, err := wire.NewConn(fds[0])
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	b := &Broker{clients: map[*client]bool{}, stop: make(chan struct{})}
	old := &client{b: b, conn: conn, counted: true}
	b.clients[old] = true
	next := &client{b: b}
	if err := next.enter(1); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("before: %v", err)
	}
	old.awaitFree()
	if err := next.enter(1); err != nil {
		t.Error(err)
	}
}

// TestMournedMost: the end of a client is no way around its rate.
func TestMournedMost(t *testing.T) {
	rounds := len(guardian.Soon)
	for rate, want := range map[string]int{
		"":                                  1 << 16,
		"packets=1000\n":                    1000 / rounds,
		"packets=1000000\nrate=\"1Mbit\"\n": 125000 / rounds / guardian.MaxProbe,
		"packets=1\n":                       0,
	} {
		p, err := policy.Parse([]byte("[[allow]]\nusers=[\"*\"]\ninterfaces=[\"a\"]\n" + rate))
		if err != nil {
			t.Fatal(err)
		}
		c := &client{b: &Broker{policy: p}, links: map[uint32]*link{1: {nic: &nic{name: "a"}}}}
		if n := c.mournedMost(); n != want {
			t.Errorf("%q: %d instead of %d", rate, n, want)
		}
	}
}
