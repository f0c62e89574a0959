package broker_test

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/broker/wire"
	"github.com/onload-go/onload/internal/lab"
)

// liar is a client that may say anything. Its user is the test's.
type liar struct {
	*wire.Conn
	t testing.TB
}

func (w *network) liar(t testing.TB) *liar {
	t.Helper()
	c, err := wire.Dial(w.socket())
	must(t, err)
	must(t, c.SetDeadline(time.Now().Add(patience)))
	t.Cleanup(func() { c.Close() })
	return &liar{c, t}
}

// hello makes it a client.
func (l *liar) hello() *liar {
	l.t.Helper()
	must(l.t, l.Send(1, &wire.Hello{Version: wire.Version, Program: wire.MakeText("liar")}))
	if _, m, _, err := l.Receive(); err != nil {
		l.t.Fatal(err)
	} else if _, ok := m.(*wire.Welcome); !ok {
		l.t.Fatalf("%#v", m)
	}
	return l
}

// refused wants a question to be refused with that errno.
func (l *liar) refused(errno unix.Errno, m wire.Message, fds ...int) {
	l.t.Helper()
	must(l.t, l.Send(2, m, fds...))
	_, a, got, err := l.Receive()
	wire.CloseAll(got)
	if r, ok := a.(*wire.Refusal); err != nil || !ok || unix.Errno(r.Errno) != errno {
		l.t.Errorf("%#v: %#v, %v; want a refusal: %v", m, a, err, errno)
	}
}

// dropped wants the connection to end.
func (l *liar) dropped() {
	l.t.Helper()
	if _, m, _, err := l.Receive(); err == nil {
		l.t.Errorf("after a lie: %#v", m)
	}
}

func memfd(t testing.TB, size int64, seals int) int {
	t.Helper()
	fd, err := unix.MemfdCreate("liar", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	must(t, unix.Ftruncate(fd, size))
	_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	must(t, err)
	return fd
}

// TestLiars: clients that break the protocol, or ask for what is not theirs, get nothing,
// leave nothing, and harm nobody.
func TestLiars(t *testing.T) {
	w := newNetwork(t, lab.Options{}, everybody+"memory=\"16MiB\"\n")
	p := w.start("nobody")
	p.line()
	at := w.at(7000)[0]
	p.want("broker "+at.String(), "listen tcp %v", at)
	links := w.links()

	port := wire.MakeEndpoint(6, at)
	index := uint32(w.A.Index)
	grant := func(link uint32) *wire.Grant {
		return &wire.Grant{Link: link, Index: index, FrameSize: 4096, RxRing: 64, TxRing: 64}
	}
	const sealed = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW
	good, large, loose := memfd(t, 1<<20, sealed), memfd(t, 32<<20, sealed), memfd(t, 1<<20, 0)
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer func() { unix.Close(socket) }()
	before := descriptors(t)

	t.Run("no hello", func(t *testing.T) {
		l := w.liar(t)
		must(t, l.Send(1, grant(1), good))
		l.dropped()
	})
	t.Run("another version", func(t *testing.T) {
		l := w.liar(t)
		l.refused(unix.EPROTO, &wire.Hello{Version: 99})
		l.dropped()
	})
	t.Run("garbage", func(t *testing.T) {
		l := w.liar(t).hello()
		must(t, l.Do(func(fd int) error { return unix.Sendmsg(fd, []byte("garbage"), unix.UnixRights(good, socket), nil, 0) }))
		l.dropped()
	})
	t.Run("an answer", func(t *testing.T) {
		l := w.liar(t).hello()
		must(t, l.Send(1, &wire.OK{}))
		l.dropped()
	})
	t.Run("questions", func(t *testing.T) {
		l := w.liar(t).hello()
		l.refused(unix.ENODEV, &wire.Grant{Link: 1, Index: 999, FrameSize: 4096, RxRing: 64, TxRing: 64}, good)
		l.refused(unix.EPERM, grant(1), loose)
		l.refused(unix.ENOBUFS, grant(1), large)
		l.refused(unix.ENOENT, &wire.Claim{Link: 1, Port: port}, socket)
		l.refused(unix.ENOENT, &wire.Release{Link: 1, Port: port})
		l.refused(unix.ENOENT, &wire.Leave{Link: 1})
		l.refused(unix.ENOENT, &wire.Stats{Link: 1})
		l.refused(unix.ENOENT, &wire.Resume{Link: 1, Index: index, Token: [16]byte{1}})
		must(t, l.Send(3, grant(1), good))
		_, m, fds, err := l.Receive()
		wire.CloseAll(fds)
		if _, ok := m.(*wire.Granted); !ok || err != nil {
			t.Fatalf("%#v, %v", m, err)
		}
		l.refused(unix.EEXIST, grant(1), good)
		l.refused(unix.ENOBUFS, grant(2), memfd(t, 15<<20+4096, sealed))
		l.refused(unix.EXDEV, &wire.Claim{Link: 1, Port: port}, socket)         // of another namespace
		l.refused(unix.EPROTONOSUPPORT, &wire.Claim{Link: 1, Port: port}, good) // no socket
		l.refused(unix.ENOENT, &wire.Release{Link: 1, Port: port})              // another's
		l.refused(unix.EINVAL, &wire.Resumed{Link: 1})
		// Bound to another port than it says.
		unix.Close(socket)
		must(t, w.A.Do(func() (err error) {
			if socket, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
				return err
			}
			return unix.Bind(socket, &unix.SockaddrInet4{Port: 7007, Addr: w.A.Addr4.As4()})
		}))
		l.refused(unix.EINVAL, &wire.Claim{Link: 1, Port: port}, socket)
	})
	t.Run("flood", func(t *testing.T) {
		for range 300 { // more than a user may have
			c, err := wire.Dial(w.socket())
			if err == nil {
				_ = c.Send(1, &wire.Hello{Version: wire.Version})
				defer c.Close()
			}
		}
		must(t, echo(w.B, "tcp", at, 10))
		udp := w.at(7001)[0]
		p.want("broker "+udp.String(), "listen udp %v", udp)
		must(t, echo(w.B, "udp", udp, 10))
	})
	await(t, "links of liars go", func() bool { return w.links() == links })
	await(t, "descriptors of liars go", func() bool { return descriptors(t) <= before+1 }) // the other client has one port more
	must(t, echo(w.B, "tcp", at, 10))
}

func descriptors(t testing.TB) int {
	t.Helper()
	l, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(l)
}
