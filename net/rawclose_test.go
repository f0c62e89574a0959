package onload_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// TestRawControlCloses: the kernel socket that Control has made ends with the
// connection, also while Control is called.
func TestRawControlCloses(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	for range 10 {
		conns, _ := rawPairs(t, p, e, p.B.Addr4.String())
		c := conns[1]
		r := raw(t, c)
		socket := ""
		see := func(fd uintptr) {
			var st unix.Stat_t
			if err := unix.Fstat(int(fd), &st); err != nil {
				t.Error(err)
			}
			socket = fmt.Sprintf("socket:[%d]", st.Ino)
		}
		if err := r.Control(see); err != nil {
			t.Fatal(err)
		}
		if !open(t, socket) {
			t.Fatalf("%s is not open", socket)
		}
		done := make(chan error)
		go func() {
			for {
				if err := r.Control(func(uintptr) {}); err != nil {
					done <- err
					return
				}
			}
		}()
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if open(t, socket) {
			t.Fatalf("%s is open after Close", socket)
		}
	}
}

// open reports whether this process has the socket.
func open(t *testing.T, socket string) bool {
	t.Helper()
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && to == socket {
			return true
		}
	}
	return false
}
