package netns_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/netns"
)

func newNS(t *testing.T) netns.Handle {
	t.Helper()
	lab.NeedRoot(t)
	h, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func current(t *testing.T) netns.Handle {
	t.Helper()
	h, err := netns.Current()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func TestDo(t *testing.T) {
	home := current(t)
	a, b := newNS(t), newNS(t)
	if a.Equal(b) || a.Equal(home) || !a.Equal(a) || !home.Equal(netns.Handle{}) {
		t.Fatal("Equal is wrong")
	}
	want := errors.New("from fn")
	err := a.Do(func() error {
		if !a.Equal(netns.Handle{}) {
			t.Error("not inside the namespace")
		}
		if unix.Gettid() == unix.Getpid() {
			t.Error("runs on the main thread")
		}
		ifs, err := net.Interfaces()
		if err != nil || len(ifs) != 1 || ifs[0].Name != "lo" {
			t.Errorf("interfaces %v, %v", ifs, err)
		}
		// Nested: the inner one is entered and left, the outer one stays.
		b.Do(func() error {
			if !b.Equal(netns.Handle{}) {
				t.Error("nested Do is not inside")
			}
			return nil
		})
		if !a.Equal(netns.Handle{}) {
			t.Error("nested Do changed the outer thread")
		}
		return want
	})
	if err != want {
		t.Fatalf("error %v", err)
	}
}

// No thread may be left behind in another namespace, whatever fn does.
func TestThreadsRestored(t *testing.T) {
	home := current(t)
	h := newNS(t)
	var wg sync.WaitGroup
	for i := range 48 {
		wg.Go(func() {
			defer func() {
				if p := recover(); (p != nil) != (i%3 == 1) {
					t.Errorf("panic %v in run %d", p, i)
				}
			}()
			h.Do(func() error {
				switch i % 3 {
				case 1:
					panic("on purpose")
				case 2:
					return syscall.EIO
				}
				return nil
			})
		})
	}
	wg.Wait()
	paths, err := filepath.Glob("/proc/self/task/*/ns/net")
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	for _, p := range paths {
		th, err := netns.Open(p)
		if err != nil {
			continue // the thread is gone
		}
		if !th.Equal(home) {
			t.Errorf("%s is in another namespace", p)
		}
		th.Close()
	}
}

func TestGoexitCarriesOver(t *testing.T) {
	h := newNS(t)
	after := false
	done := make(chan bool)
	go func() {
		defer close(done)
		h.Do(func() error { runtime.Goexit(); return nil })
		after = true
	}()
	<-done
	if after {
		t.Fatal("the caller went on after Goexit")
	}
}

func TestPathDupClose(t *testing.T) {
	h := newNS(t)
	again, err := netns.Open(h.Path())
	if err != nil || !again.Equal(h) {
		t.Fatalf("Open(%s): %v", h.Path(), err)
	}
	d, err := h.Dup()
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
	if err := h.Do(func() error { return nil }); !errors.Is(err, os.ErrClosed) {
		t.Fatalf("Do on a closed Handle: %v", err)
	}
	if h.Equal(h) {
		t.Fatal("a closed Handle equals something")
	}
	if err := d.Do(func() error { return nil }); err != nil || !d.Equal(again) {
		t.Fatal("Dup does not outlive its source", err)
	}
	d.Close()
	again.Close()
	if h, err := netns.Open("/etc/passwd"); err == nil {
		h.Close()
		t.Fatal("a plain file was taken for a namespace")
	}
}
