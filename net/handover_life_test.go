package onload_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/repair"
	onload "github.com/onload-go/onload/net"
	"github.com/onload-go/onload/tcp"
)

// TestFileWhileWaiting: calls that wait go on by the kernel: a Read until data comes,
// another until the deadline that it had.
func TestFileWhileWaiting(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	a := vethEngine(t, p.A, onload.Config{})
	h := newHanded(t, a, p.B, p.A.Addr4.String(), p.B.Addr4.String(), true)
	type result struct {
		n   int
		err error
	}
	read := func() <-chan result {
		done := make(chan result, 1)
		go func() {
			n, err := h.c.Read(make([]byte, 100))
			done <- result{n, err}
		}()
		return done
	}
	first := read()
	f, err := h.c.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := h.peer.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if r := <-first; r.n != 5 || r.err != nil {
		t.Errorf("%d bytes, %v", r.n, r.err)
	}
	if err := h.c.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Error(err)
	}
	if r := <-read(); !errors.Is(r.err, os.ErrDeadlineExceeded) {
		t.Errorf("after the deadline: %v", r.err)
	}

	h = newHanded(t, a, p.B, p.A.Addr4.String(), p.B.Addr4.String(), true)
	if err := h.c.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	late := read()
	g, err := h.c.File()
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if r := <-late; !errors.Is(r.err, os.ErrDeadlineExceeded) {
		t.Errorf("the deadline was set before: %d bytes, %v", r.n, r.err)
	}
}

// TestFileOfChild: a child process has the connection as its standard input and output,
// by os/exec. The parent's end of it is closed meanwhile.
func TestFileOfChild(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	a := vethEngine(t, p.A, onload.Config{})
	h := newHanded(t, a, p.B, p.A.Addr6.String(), p.B.Addr6.String(), false)
	if _, err := h.peer.Write([]byte("unread\n")); err != nil {
		t.Fatal(err)
	}
	f, err := h.c.File()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command("sh", "-c", "tr a-z A-Z <&3 >&3")
	child.ExtraFiles = []*os.File{f}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Close(), h.c.Close()); err != nil {
		t.Error(err)
	}
	if _, err := h.peer.Write([]byte("more\n")); err != nil {
		t.Fatal(err)
	}
	if err := h.peer.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(h.peer); string(b) != "UNREAD\nMORE\n" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if err := child.Wait(); err != nil {
		t.Error(err)
	}
}

// TestFileFails: where the kernel does not take the connection, it goes on as it was.
func TestFileFails(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	a := vethEngine(t, p.A, onload.Config{})
	h := newHanded(t, a, p.B, p.A.Addr4.String(), p.B.Addr4.String(), true)
	// The kernel has a connection between the same ends.
	other := &tcp.Snapshot{State: tcp.Established, SndScale: -1, RcvScale: -1,
		Local: h.c.LocalAddr().(*net.TCPAddr).AddrPort(), Remote: h.c.RemoteAddr().(*net.TCPAddr).AddrPort()}
	if err := p.A.Do(func() error {
		fd, err := repair.Restore(other, nil)
		if err == nil {
			t.Cleanup(func() {
				if err := errors.Join(repair.Drop(fd), os.NewFile(uintptr(fd), "").Close()); err != nil {
					t.Error(err)
				}
			})
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	h.exchange(1<<18, 1000, func() {
		if _, err := h.c.File(); err == nil || !strings.Contains(err.Error(), "cannot assign requested address") {
			t.Error("File: ", err)
		}
		if p := onload.PathOf(h.c); !p.Accelerated {
			t.Error("path: ", p)
		}
	})
}

// TestFileOfClosed: a connection that the program has closed has no File, also where the
// peer has not closed its side.
func TestFileOfClosed(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	a := vethEngine(t, p.A, onload.Config{})
	h := newHanded(t, a, p.B, p.A.Addr4.String(), p.B.Addr4.String(), true)
	if err := h.c.Close(); err != nil {
		t.Fatal(err)
	}
	if f, err := h.c.File(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
		f.Close()
	}
	if b, err := io.ReadAll(h.peer); len(b) != 0 || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

// TestFileWhileRawWrite: what a program has written by its RawConn is sent once, also where
// the connection had no room for it before it was handed over.
func TestFileWhileRawWrite(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	a := vethEngine(t, p.A, onload.Config{})
	h := newHanded(t, a, p.B, p.A.Addr4.String(), p.B.Addr4.String(), true)
	data := stream(1, 32<<20)
	if err := h.c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	n, err := h.c.Write(data)
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes, of which nobody has read one: %v", n, err)
	}
	if err := h.c.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	raw, err := h.c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	calls, called, wrote := 0, make(chan int, 10), make(chan error, 1)
	go func() {
		wrote <- raw.Write(func(fd uintptr) bool {
			k, err := syscall.Write(int(fd), data[n:][:32<<10])
			if err != nil {
				k = 0
			}
			calls++
			called <- k
			return true
		})
	}()
	k := <-called
	time.Sleep(50 * time.Millisecond) // so that it waits for room
	f, err := h.c.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, n+k)
	if _, err := io.ReadFull(h.peer, got); err != nil {
		t.Fatal(err)
	}
	if err := <-wrote; err != nil || calls != 1 || k == 0 {
		t.Errorf("%d calls, %d bytes, %v", calls, k, err)
	}
	if err := h.c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if more, err := io.ReadAll(h.peer); len(more) != 0 || err != nil || !bytes.Equal(got, data[:n+k]) {
		t.Errorf("the stream differs: %d bytes more, %v", len(more), err)
	}
}
