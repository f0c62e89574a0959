package onload_test

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/testlong"
	onload "github.com/onload-go/onload/net"
)

// inherited are the descriptors that a process has which this one starts.
func inherited(t *testing.T) []string {
	t.Helper()
	out, err := exec.Command("/bin/ls", "/proc/self/fd").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(out))
}

// TestCloseOnExec: a process that the program starts inherits no descriptor of ours.
func TestCloseOnExec(t *testing.T) {
	before := inherited(t)
	p := lab.NewPair(t, lab.Options{})
	a, b := vethEngine(t, p.A, onload.Config{}), vethEngine(t, p.B, onload.Config{})
	ln, err := a.Listen("tcp", net.JoinHostPort(p.A.Addr4.String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	u, err := a.ListenPacket("udp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	c, err := b.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	acceptOf(t, ln, c)
	raw, err := c.(*onload.TCPConn).SyscallConn() // makes a shadow of the connection
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(uintptr) {}); err != nil {
		t.Fatal(err)
	}
	passed(t, ln.(*onload.TCPListener))
	passed(t, u.(*onload.UDPConn))
	if after := inherited(t); !slices.Equal(before, after) {
		t.Errorf("a child has descriptors %v, before %v", after, before)
	}
}

// TestFork: a stack in use is unharmed by forks, of which one half goes on for a while
// with a copy of its memory.
func TestFork(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	ln, err := e.Listen("tcp", net.JoinHostPort(p.A.Addr4.String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	served := serveClients(ln)
	c := dialFrom(t, p.B, ln.Addr().String())
	_ = c.SetDeadline(time.Now().Add(hang))
	sum, got := sha256.New(), sha256.New()
	stop, sent := make(chan struct{}), make(chan error, 1)
	go func() {
		b := make([]byte, 64<<10)
		src := rand.NewChaCha8([32]byte{1})
		for {
			select {
			case <-stop:
				sent <- c.(*net.TCPConn).CloseWrite()
				return
			default:
			}
			_, _ = src.Read(b)
			sum.Write(b)
			if _, err := c.Write(b); err != nil {
				sent <- err
				return
			}
		}
	}()
	heard := make(chan error, 1)
	go func() {
		_, err := io.Copy(got, c)
		heard <- err
	}()
	for range testlong.Pick(5, 500) {
		pid, err := syscall.ForkExec("/bin/true", []string{"true"}, &syscall.ProcAttr{Files: []uintptr{0, 1, 2}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := unix.Wait4(pid, nil, 0, nil); err != nil {
			t.Fatal(err)
		}
		forkBriefly(t)
	}
	close(stop)
	if err := <-sent; err != nil {
		t.Error(err)
	}
	if err := <-heard; err != nil {
		t.Error(err)
	}
	if !bytes.Equal(sum.Sum(nil), got.Sum(nil)) {
		t.Error("the echo differs from what was sent")
	}
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
	served.Wait()
}

// forkBriefly forks as C does, without exec. The child sleeps for a while and ends.
func forkBriefly(t *testing.T) {
	t.Helper()
	brief := unix.Timespec{Nsec: 5_000_000}
	pid, err := rawFork(&brief)
	if err != 0 {
		t.Fatal(os.NewSyscallError("fork", err))
	}
	var status unix.WaitStatus
	if _, err := unix.Wait4(pid, &status, 0, nil); err != nil || !status.Exited() {
		t.Fatalf("the child: %v, %#x", err, status)
	}
}
