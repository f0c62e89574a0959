package programs

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/overlay"
	"github.com/onload-go/onload/internal/testlong"
)

// TestRestarts: a web server that `onload build` has made is replaced, again and again, by
// libraries that know nothing of it, while clients of the kernel connect and ask all the
// time. None fails, and the last server has the interface.
func TestRestarts(t *testing.T) {
	lab.NeedRoot(t)
	// What a server starts becomes this process's child when the server ends.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "restart")
	build, err := overlay.Build("build", []string{"-o", program, "./restart"})
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(build.Path, build.Args[1:]...)
	c.Env = build.Env
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for way, times := range map[string]int{"tableflip": 3, "grace": 1, "systemd": 1} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			restarts(t, program, way, testlong.Pick(times, 50))
		})
	}
}

func restarts(t *testing.T, program, way string, times int) {
	p := lab.NewPair(t, lab.Options{})
	at := net.JoinHostPort(p.A.Addr4.String(), "80")
	env := append(os.Environ(), "ONLOAD_INTERFACES="+p.A.If)
	start := func() { run(t, p.A, env, nil, program, way, at) }
	if way == "systemd" {
		ln, err := p.A.Listen("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		f, err := ln.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		start = func() {
			run(t, p.A, append(env, "LISTEN_FDS=1"), f, "/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" systemd`, program)
		}
	}
	start()
	a := ask(p.B, at)
	defer a.kill()
	server := a.server(t, 0)
	for range times {
		a.more(t)
		was := server
		if way == "systemd" {
			start()
			signalTo(t, was, syscall.SIGTERM)
		} else {
			signalTo(t, was, syscall.SIGHUP)
		}
		server = a.server(t, was)
		waitFor(t, "the old server ends", func() bool {
			var status unix.WaitStatus
			pid, err := unix.Wait4(was, &status, unix.WNOHANG, nil)
			if pid == was && status.ExitStatus() != 0 {
				t.Fatalf("the old server: exit %d, %v", status.ExitStatus(), status.Signal())
			}
			return pid == was || err == unix.ECHILD
		})
	}
	a.more(t)
	waitFor(t, "connections are accelerated", func() bool { return !a.kernelHas(t, server) })
	a.more(t)
	a.end()
	signalTo(t, server, syscall.SIGTERM)
	if _, err := unix.Wait4(server, nil, 0, nil); err != nil && err != unix.ECHILD {
		t.Error(err)
	}
}

// run starts a program in ns; file, unless nil, is its descriptor 3.
func run(t *testing.T, ns *lab.NS, env []string, file *os.File, name string, args ...string) {
	t.Helper()
	c := exec.Command(name, args...)
	c.Env, c.Stderr = env, os.Stderr
	if file != nil {
		c.ExtraFiles = []*os.File{file}
	}
	if err := ns.Do(c.Start); err != nil {
		t.Fatal(err)
	}
}

func signalTo(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, s); err != nil {
		t.Fatal(err)
	}
}

func waitFor(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("in vain: " + what)
		}
	}
}

// asking are clients that connect, ask and hear the answer, all the time.
type asking struct {
	from   *lab.NS
	at     string
	asked  atomic.Int64
	last   atomic.Int64 // process that answered
	seen   sync.Map     // all that did
	failed chan error
	stop   context.CancelFunc
	all    sync.WaitGroup
}

func ask(from *lab.NS, at string) *asking {
	ctx, stop := context.WithCancel(context.Background())
	a := &asking{from: from, at: at, failed: make(chan error, 1), stop: stop}
	for range 3 {
		a.all.Go(func() {
			for served := false; ctx.Err() == nil; {
				pid, err := a.once()
				switch {
				case err != nil && served:
					select {
					case a.failed <- err:
					default:
					}
					return
				case err != nil: // the first server has not come up
					time.Sleep(time.Millisecond)
				default:
					served = true
					a.last.Store(int64(pid))
					a.seen.Store(pid, true)
					a.asked.Add(1)
				}
			}
		})
	}
	return a
}

// once asks by a connection of its own. It posts, since a GET might be repeated in silence.
func (a *asking) once() (pid int, err error) {
	var local net.Addr
	defer func() {
		if err != nil && local != nil {
			err = fmt.Errorf("from %s: %w", local, err)
		}
	}()
	tr := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := a.from.DialContext(ctx, network, address)
		if err == nil {
			local = c.LocalAddr()
		}
		return c, err
	}, DisableKeepAlives: true}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "POST", "http://"+a.at, io.NopCloser(strings.NewReader("x")))
	if err != nil {
		return 0, err
	}
	answer, err := tr.RoundTrip(r)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil {
		_, err = fmt.Sscanf(string(body), "process %d", &pid)
	}
	return pid, err
}

func (a *asking) check(t *testing.T) {
	t.Helper()
	select {
	case err := <-a.failed:
		t.Fatalf("after %d requests: %v", a.asked.Load(), err)
	default:
	}
}

// more waits until some more requests were answered.
func (a *asking) more(t *testing.T) {
	t.Helper()
	want := a.asked.Load() + 30
	waitFor(t, "requests are answered", func() bool { a.check(t); return a.asked.Load() >= want })
}

// server is the process that answers and is not was.
func (a *asking) server(t *testing.T, was int) (pid int) {
	t.Helper()
	waitFor(t, "a new server answers", func() bool {
		a.check(t)
		pid = int(a.last.Load())
		return pid != 0 && pid != was
	})
	return pid
}

// kernelHas reports whether the server's kernel has a connection that was just opened.
func (a *asking) kernelHas(t *testing.T, server int) bool {
	t.Helper()
	c, err := a.from.Dial("tcp", a.at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", server))
	if err != nil {
		t.Fatal(err)
	}
	const established = "01" // include/net/tcp_states.h
	peer := fmt.Sprintf(":%04X", c.LocalAddr().(*net.TCPAddr).Port)
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 3 && strings.HasSuffix(f[2], peer) && f[3] == established {
			return true
		}
	}
	return false
}

// kill ends clients and servers, if a test has failed before it did.
func (a *asking) kill() {
	a.end()
	a.seen.Range(func(pid, _ any) bool {
		if unix.Kill(pid.(int), unix.SIGKILL) == nil {
			_, _ = unix.Wait4(pid.(int), nil, 0, nil)
		}
		return true
	})
}

func (a *asking) end() {
	a.stop()
	a.all.Wait()
}
