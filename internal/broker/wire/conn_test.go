package wire

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
)

// pair returns two ends of a connection; the second also as a raw descriptor.
func pair(t *testing.T) (a *Conn, raw int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if a, err = NewConn(fds[0]); err != nil {
		t.Fatal(err)
	}
	if err := a.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a, fds[1]
}

func descriptors(t *testing.T) int {
	t.Helper()
	l, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(l)
}

func TestDescriptorsTravel(t *testing.T) {
	a, raw := pair(t)
	b, err := NewConn(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	memfd, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(memfd)
	if _, err := unix.Write(memfd, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := b.Send(5, &Grant{Index: 1, FrameSize: 4096, RxRing: 64, TxRing: 64}, memfd); err != nil {
		t.Fatal(err)
	}
	seq, m, fds, err := a.Receive()
	if err != nil || seq != 5 || m.(*Grant).RxRing != 64 || len(fds) != 1 {
		t.Fatal(seq, m, fds, err)
	}
	defer CloseAll(fds)
	var p [5]byte
	if _, err := unix.Pread(fds[0], p[:], 0); err != nil || string(p[:]) != "hello" {
		t.Errorf("%q, %v", p, err)
	}
	if flags, err := unix.FcntlInt(uintptr(fds[0]), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("the descriptor is inherited: flags %#x, %v", flags, err)
	}
	b.Close()
	if _, _, _, err := a.Receive(); err != io.EOF {
		t.Errorf("after the end: %v", err)
	}
}

// TestLiars: what is no message of the protocol is an error, and leaves no descriptor.
func TestLiars(t *testing.T) {
	ok, err := Append(nil, 1, &OK{})
	if err != nil {
		t.Fatal(err)
	}
	claim, err := Append(nil, 1, &Claim{1, Endpoint{Proto: 6, Port: 80}})
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		p   []byte
		fds int
	}{
		"cut":                     {claim[:10], 1},
		"too large":               {make([]byte, MaxMessage+100), 0},
		"no descriptor":           {claim, 0},
		"two descriptors":         {claim, 2},
		"unwanted descriptor":     {ok, 1},
		"many descriptors":        {claim, 200},
		"descriptors and garbage": {[]byte("garbage"), 3},
	} {
		t.Run(name, func(t *testing.T) {
			a, raw := pair(t)
			defer unix.Close(raw)
			if err := unix.SetsockoptInt(raw, unix.SOL_SOCKET, unix.SO_SNDBUF, 1<<20); err != nil {
				t.Fatal(err)
			}
			before := descriptors(t)
			var oob []byte
			if x.fds > 0 {
				fds := make([]int, x.fds)
				for i := range fds {
					fds[i] = raw
				}
				oob = unix.UnixRights(fds...)
			}
			if err := unix.Sendmsg(raw, x.p, oob, nil, 0); err != nil {
				t.Fatal(err)
			}
			if _, m, _, err := a.Receive(); !errors.Is(err, ErrMalformed) {
				t.Errorf("%#v, %v", m, err)
			}
			if after := descriptors(t); after != before {
				t.Errorf("%d descriptors before, %d after", before, after)
			}
		})
	}
}

// TestDeadline: a peer that says nothing keeps nobody waiting.
func TestDeadline(t *testing.T) {
	a, raw := pair(t)
	defer unix.Close(raw)
	if err := a.SetDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := a.Receive(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	var err error
	for err == nil { // until the socket's buffer is full
		err = a.Send(1, &OK{})
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

// TestFullQueue: a client that finds the broker's queue full waits for a place in it.
func TestFullQueue(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sock")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	first, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	if c, err := Dial(path); !errors.Is(err, unix.EAGAIN) {
		if err == nil {
			c.Close()
		}
		t.Fatalf("a queue that stays full: %v", err)
	}
	accepted := make(chan int)
	go func() {
		defer close(accepted)
		for range 2 {
			if c, _, err := unix.Accept(fd); err == nil {
				accepted <- c
			}
		}
	}()
	second, err := Dial(path)
	if err != nil {
		t.Error(err)
	} else {
		defer second.Close()
	}
	_ = unix.Shutdown(fd, unix.SHUT_RDWR) // if there is no second
	for c := range accepted {
		unix.Close(c)
	}
}
