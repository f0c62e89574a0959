package broker_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
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
	t.Run("an answer with descriptors", func(t *testing.T) {
		for range 3 {
			l := w.liar(t).hello()
			must(t, l.Send(1, &wire.Granted{MTU: 1500, Segments: 1}, good, socket, good))
			l.dropped()
		}
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

// socketAt is a socket of A's that is bound there.
func (w *network) socketAt(typ int, at netip.AddrPort) int {
	w.t.Helper()
	fd := -1
	must(w.t, w.A.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_INET, typ|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()})
	}))
	w.t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// granted asks for a link, whose sockets live as long as the test.
func (l *liar) granted(link, index uint32, umem int) *wire.Granted {
	l.t.Helper()
	must(l.t, l.Send(3, &wire.Grant{Link: link, Index: index, FrameSize: 4096, RxRing: 64, TxRing: 64}, umem))
	_, m, fds, err := l.Receive()
	l.t.Cleanup(func() { wire.CloseAll(fds) })
	g, ok := m.(*wire.Granted)
	if !ok {
		l.t.Fatalf("%#v, %v", m, err)
	}
	return g
}

// ok wants a question to be answered with OK.
func (l *liar) ok(m wire.Message, fds ...int) {
	l.t.Helper()
	must(l.t, l.Send(4, m, fds...))
	if _, a, _, err := l.Receive(); err != nil {
		l.t.Fatal(err)
	} else if _, ok := a.(*wire.OK); !ok {
		l.t.Fatalf("%#v: %#v", m, a)
	}
}

const sealedMemory = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW

// TestMemoryThatGrows: memory that is sealed when the broker looks again counts as what it
// is.
func TestMemoryThatGrows(t *testing.T) {
	const most = 4 << 20
	w := newNetwork(t, lab.Options{}, everybody+"memory=\"4MiB\"\n")
	index := uint32(w.A.Index)
	for i := range 20 {
		l := w.liar(t).hello()
		sum := int64(0)
		for link := range uint32(2) {
			fd := memfd(t, 4096, 0)
			must(t, l.Send(2, &wire.Grant{Link: link, Index: index, FrameSize: 4096, RxRing: 64, TxRing: 64}, fd))
			time.Sleep(time.Duration(i) * 200 * time.Microsecond) // some moment between its looks
			size := int64(most - 4096*link)                       // what is left where the first counts as one page
			must(t, unix.Ftruncate(fd, size))
			_, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, sealedMemory)
			must(t, err)
			_, m, fds, err := l.Receive()
			must(t, err)
			wire.CloseAll(fds)
			if _, ok := m.(*wire.Granted); ok {
				sum += size
			}
		}
		if l.Close(); sum > most {
			t.Fatalf("%d bytes of %d", sum, most)
		}
	}
}

// TestLinksOfOne: one client does not take all links of an interface.
func TestLinksOfOne(t *testing.T) {
	w := newNetwork(t, lab.Options{}, everybody)
	l := w.liar(t).hello()
	index := uint32(w.A.Index)
	umem := memfd(t, 1<<20, sealedMemory)
	l.granted(1, index, umem)
	l.granted(2, index, umem)
	l.refused(unix.EEXIST, &wire.Grant{Link: 3, Index: index, FrameSize: 4096, RxRing: 64, TxRing: 64}, umem)
	l.ok(&wire.Leave{Link: 1})
	l.granted(3, index, umem)
}

// TestPolicyOfEachInterface: a port that a client has on one interface is not its on
// another, where the policy refuses it.
func TestPolicyOfEachInterface(t *testing.T) {
	w := newNetwork(t, lab.Options{}, everybody)
	second, _, err := lab.Veth(w.A, w.B, lab.Options{})
	must(t, err)
	w.end(true)
	w.more = []string{second.If}
	w.policy = "[[allow]]\nusers=[\"*\"]\ninterfaces=[\"" + w.A.If + "\"]\n" +
		"[[allow]]\nusers=[\"*\"]\ninterfaces=[\"" + second.If + "\"]\nports=[\"tcp 7001\"]\n"
	w.begin()
	l := w.liar(t).hello()
	umem := memfd(t, 1<<20, sealedMemory)
	l.granted(1, uint32(w.A.Index), umem)
	l.granted(2, uint32(second.Index), umem)
	for port, allowed := range map[uint16]bool{7000: false, 7001: true} {
		at := netip.AddrPortFrom(netip.IPv4Unspecified(), port)
		socket := w.socketAt(unix.SOCK_STREAM, at)
		l.ok(&wire.Claim{Link: 1, Port: wire.MakeEndpoint(6, at)}, socket)
		if c := (&wire.Claim{Link: 2, Port: wire.MakeEndpoint(6, at)}); allowed {
			l.ok(c, socket)
		} else {
			l.refused(unix.EADDRINUSE, c, socket)
		}
	}
}

// TestExceptionsOfBefore: what a client has left to the kernel of a port goes with the port.
func TestExceptionsOfBefore(t *testing.T) {
	w := newNetwork(t, lab.Options{}, everybody)
	l := w.liar(t).hello()
	l.granted(1, uint32(w.A.Index), memfd(t, 1<<20, sealedMemory))
	at := netip.AddrPortFrom(w.A.Addr4, 7000)
	port, peer := wire.MakeEndpoint(6, at), wire.MakeEndpoint(6, netip.AddrPortFrom(w.B.Addr4, 9000))
	socket := w.socketAt(unix.SOCK_STREAM, at)
	l.ok(&wire.Claim{Link: 1, Port: port}, socket)
	l.ok(&wire.Except{Link: 1, Local: port, Remote: peer})
	l.ok(&wire.Release{Link: 1, Port: port})
	l.refused(unix.ENOENT, &wire.Unexcept{Link: 1, Local: port, Remote: peer})
	unix.Close(socket)

	// The next one serves that peer.
	p := w.start("nobody")
	p.line()
	p.want("broker "+at.String(), "listen tcp %v", at)
	must(t, w.B.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := unix.Bind(fd, &unix.SockaddrInet4{Port: 9000, Addr: w.B.Addr4.As4()}); err != nil {
			return err
		}
		return unix.Connect(fd, &unix.SockaddrInet4{Port: 7000, Addr: w.A.Addr4.As4()})
	}))
}

// TestLinksOfBefore: a client that does not come back to the next broker, or does not say
// that it has claimed all, loses its link.
func TestLinksOfBefore(t *testing.T) {
	w := newNetwork(t, lab.Options{}, everybody)
	before := w.links()
	l := w.liar(t).hello()
	index := uint32(w.A.Index)
	away := l.granted(1, index, memfd(t, 1<<20, sealedMemory))
	idle := l.granted(2, index, memfd(t, 1<<20, sealedMemory))
	at := w.at(7000)[0]
	socket := w.socketAt(unix.SOCK_STREAM, at)
	l.ok(&wire.Claim{Link: 1, Port: wire.MakeEndpoint(6, at)}, socket)
	l.ok(&wire.Claim{Link: 2, Port: wire.MakeEndpoint(17, at)}, w.socketAt(unix.SOCK_DGRAM, at))
	_ = away
	w.end(false)
	if n := w.links(); n != before+2 {
		t.Fatalf("%d links are left of %d", n-before, 2)
	}
	w.wait = time.Millisecond
	w.begin()
	l = w.liar(t).hello()
	// It is one of those that wait, or the broker has ended it already.
	must(t, l.Send(5, &wire.Resume{Link: 2, Index: index, Token: idle.Token}))
	if _, m, _, err := l.Receive(); err == nil {
		if _, ok := m.(*wire.OK); ok {
			l.dropped()
		}
	}
	await(t, "links of before go", func() bool { return w.links() == before })
	unix.Close(socket)
	if !w.free("tcp", at) {
		t.Error("the port is taken")
	}
}

// TestDescriptorsThatStay: a descriptor that is not closed for as long as its owner likes
// keeps nothing but a thread: the link of the client goes, others are served, and the
// broker ends.
func TestDescriptorsThatStay(t *testing.T) {
	w := newNetwork(t, lab.Options{}, everybody)
	p := w.start("nobody") // now: a new process would have copies, whose end takes as long
	p.line()
	before := w.links()
	var liars []*liar
	for name, lingers := range map[string]func() int{"a socket": w.lingering, "a file": w.fuseFile} {
		for _, m := range []wire.Message{
			&wire.Grant{Link: 9, Index: uint32(w.A.Index), FrameSize: 4096, RxRing: 64, TxRing: 64},
			&wire.Claim{Link: 1, Port: wire.MakeEndpoint(6, w.at(7000)[0])},
		} {
			l := w.liar(t).hello()
			l.granted(1, uint32(w.A.Index), memfd(t, 1<<20, sealedMemory))
			fd := lingers()
			if fd < 0 {
				t.Logf("%s: not here", name)
				continue
			}
			must(t, l.Send(2, m, fd))
			if name == "a socket" {
				// Whose descriptor is the last one, and waits? If ours, the broker refuses.
				go unix.Close(fd)
				if _, _, _, err := l.Receive(); err == nil {
					l.Close()
				}
				continue
			}
			liars = append(liars, l)
		}
	}
	for _, l := range liars {
		l.dropped()
	}
	await(t, "the links go", func() bool { return w.links() == before })
	at := w.at(7000)[0]
	p.want("broker "+at.String(), "listen tcp %v", at)
	must(t, echo(w.B, "tcp", at, 10))
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.end(true)
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("the broker does not end")
	}
}

// lingering is a socket that close(2) waits for: its peer reads nothing.
func (w *network) lingering() int {
	w.t.Helper()
	var fd int
	must(w.t, w.A.Do(func() error {
		l, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		w.t.Cleanup(func() { unix.Close(l) })
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		lo := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
		if err := errors.Join(unix.Bind(l, lo), unix.Listen(l, 1)); err != nil {
			return err
		}
		at, err := unix.Getsockname(l)
		if err != nil {
			return err
		}
		err = errors.Join(unix.Connect(fd, at), unix.SetNonblock(fd, true),
			unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 3600}))
		for err == nil { // until nothing more fits
			_, err = unix.Write(fd, make([]byte, 65536))
		}
		if err == unix.EAGAIN {
			err = nil
		}
		return err
	}))
	return fd
}

// fuseFile is a file whose server never answers close(2), until the test ends; -1 if
// there are none here.
func (w *network) fuseFile() int {
	w.t.Helper()
	dev, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	at := filepath.Join(w.t.TempDir(), "file")
	must(w.t, os.WriteFile(at, nil, 0o600))
	if err := unix.Mount("test", at, "fuse", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("fd=%d,rootmode=100000,user_id=0,group_id=0", dev)); err != nil {
		unix.Close(dev)
		return -1
	}
	w.t.Cleanup(func() { _ = unix.Unmount(at, unix.MNT_DETACH) })
	abort := make(chan struct{})
	go fuseServer(dev, abort)
	fd, err := unix.Open(at, unix.O_RDWR|unix.O_CLOEXEC, 0)
	must(w.t, err)
	w.t.Cleanup(func() { // first, so that the others do not wait
		close(abort)
		unix.Close(fd)
	})
	return fd
}

// fuseServer answers what opening a file takes, and FUSE_FLUSH never (linux/fuse.h).
func fuseServer(dev int, abort <-chan struct{}) {
	defer unix.Close(dev)
	_ = unix.SetNonblock(dev, true)
	buf := make([]byte, 1<<17)
	answer := func(unique uint64, errno int32, body []byte) {
		b := binary.NativeEndian.AppendUint32(nil, uint32(16+len(body)))
		b = binary.NativeEndian.AppendUint32(b, uint32(errno))
		b = binary.NativeEndian.AppendUint64(b, unique)
		_, _ = unix.Write(dev, append(b, body...))
	}
	for {
		select {
		case <-abort:
			return
		default:
		}
		n, err := unix.Read(dev, buf)
		if err == unix.EAGAIN {
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(dev), Events: unix.POLLIN}}, 10)
			continue
		}
		if err != nil || n < 40 {
			return
		}
		opcode, unique := binary.NativeEndian.Uint32(buf[4:]), binary.NativeEndian.Uint64(buf[8:])
		switch opcode {
		case 26: // FUSE_INIT
			out := make([]byte, 64)
			binary.NativeEndian.PutUint32(out, 7)
			binary.NativeEndian.PutUint32(out[4:], 31)
			binary.NativeEndian.PutUint32(out[20:], 4096) // max_write
			answer(unique, 0, out)
		case 14: // FUSE_OPEN
			answer(unique, 0, make([]byte, 16))
		case 25, 2: // FUSE_FLUSH; FUSE_FORGET has no answer
		default:
			answer(unique, -int32(unix.EIO), nil)
		}
	}
}

// TestGroupsAreTheKernels: nobody takes a group's datagrams from the sockets that hear it.
func TestGroupsAreTheKernels(t *testing.T) {
	w := newNetwork(t, lab.Options{}, everybody)
	l := w.liar(t).hello()
	l.granted(1, uint32(w.A.Index), memfd(t, 1<<20, sealedMemory))
	at := netip.MustParseAddrPort("224.0.0.251:5353")
	l.refused(unix.EOPNOTSUPP, &wire.Claim{Link: 1, Port: wire.MakeEndpoint(17, at)}, w.socketAt(unix.SOCK_DGRAM, at))
}
