package inspect

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
)

func init() {
	Handle("test-echo", func(r *Request) error {
		var args struct {
			Text  string `json:"text"`
			Times int    `json:"times"`
		}
		if err := r.Decode(&args); err != nil {
			return err
		}
		for range args.Times {
			if err := r.Send(args.Text, r.Files...); err != nil {
				return err
			}
		}
		return nil
	})
	Handle("test-fault", func(*Request) error { panic("of the test") })
	Handle("test-wait", func(r *Request) error { r.Wait(); return errors.New("waited") })
}

// begin opens a server in a folder of the test's own.
func begin(t *testing.T) *server {
	t.Helper()
	s, err := open([]string{filepath.Join(t.TempDir(), "own")}, os.Geteuid())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func dial(t *testing.T, s *server) *Conn {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: s.path})
	}
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	c := NewConn(os.NewFile(uintptr(fd), "test"))
	t.Cleanup(func() { _ = c.Close() })
	if err := c.f.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return c
}

// say writes text as it is and returns all that is answered.
func say(t *testing.T, s *server, text string) string {
	t.Helper()
	c := dial(t, s)
	_, _ = c.f.WriteString(text) // it may be refused in the middle
	var b strings.Builder
	for {
		line, _, err := c.ReadLine()
		if err != nil {
			if err != io.EOF && !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("%.80q: %v", text, err)
			}
			return b.String()
		}
		b.Write(line)
		b.WriteByte('\n')
	}
}

// TestProtocol: requests that are right and answered; others are refused with a reason.
func TestProtocol(t *testing.T) {
	s := begin(t)
	defer s.close()
	for text, want := range map[string]string{
		`{"version":1,"kind":"test-echo","args":{"text":"a","times":2}}` + "\n": "{\"data\":\"a\"}\n{\"data\":\"a\"}\n{\"end\":true}\n",
		`{"version":1,"kind":"test-echo"}` + "\n":                               "{\"end\":true}\n",
		`{"version":1,"kind":"test-echo","args":{"txt":"a"}}` + "\n":            `unknown field \"txt\"`,
		`{"version":1,"kind":"test-echo","more":1}` + "\n":                      `unknown field \"more\"`,
		`{"version":2,"kind":"test-echo"}` + "\n":                               "version 2 of the protocol",
		`{"version":1,"kind":"test-none"}` + "\n":                               `kind \"test-none\"`,
		`{"version":1,"kind":"test-fault"}` + "\n":                              "a fault of the program",
		`{"version":1,"kind":"test-echo"} {}` + "\n":                            "more than one value",
		`{"version":1,"kind":"test-echo"}` + "\n{}\n":                           "more than one request",
		"GET / HTTP/1.1\r\n\r\n":                                                "request: invalid character",
		"\n":                                                                    "request: EOF",
		strings.Repeat("x", mostRequest+10):                                     errTooLong.Error(),
	} {
		if got := say(t, s, text); !strings.Contains(got, want) {
			t.Errorf("%.80q: %s, not %s", text, got, want)
		}
	}
}

// TestDescriptors: those of a request arrive, come back, and are closed.
func TestDescriptors(t *testing.T) {
	s := begin(t)
	defer s.close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	c := dial(t, s)
	err = c.WriteLine(map[string]any{"version": 1, "kind": "test-echo", "args": map[string]any{"text": "x", "times": 1}}, w)
	if err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	_, files, err := c.ReadLine()
	if err != nil || len(files) != 1 {
		t.Fatalf("%d descriptors, %v", len(files), err)
	}
	if _, err := files[0].WriteString("through"); err != nil {
		t.Fatal(err)
	}
	_ = files[0].Close()
	if line, _, err := c.ReadLine(); err != nil || string(line) != `{"end":true}` {
		t.Fatalf("%s %v", line, err)
	}
	// All copies are closed, so that the pipe ends.
	if b, err := io.ReadAll(r); err != nil || string(b) != "through" {
		t.Errorf("%q %v", b, err)
	}
}

// TestClose: it ends requests that wait, removes the socket and leaves no goroutine.
func TestClose(t *testing.T) {
	s := begin(t)
	c := dial(t, s)
	if err := c.WriteLine(map[string]any{"version": 1, "kind": "test-wait"}); err != nil {
		t.Fatal(err)
	}
	for n := 0; n == 0; time.Sleep(time.Millisecond) { // until it is accepted
		s.mu.Lock()
		n = len(s.conns)
		s.mu.Unlock()
	}
	s.close()
	if _, _, err := c.ReadLine(); err == nil {
		t.Error("the request goes on")
	}
	if _, err := os.Lstat(s.path); !os.IsNotExist(err) {
		t.Error(err)
	}
}

// TestMany: beyond a number peers are turned away, and are served when others have gone.
func TestMany(t *testing.T) {
	s := begin(t)
	defer s.close()
	var waiting []*Conn
	for range mostConns {
		c := dial(t, s)
		waiting = append(waiting, c)
	}
	c := dial(t, s)
	if _, _, err := c.ReadLine(); err == nil {
		t.Error("there is no limit")
	}
	for _, c := range waiting {
		_ = c.Close()
	}
	for n := 1; n > 0; time.Sleep(time.Millisecond) {
		s.mu.Lock()
		n = len(s.conns)
		s.mu.Unlock()
	}
	if got := say(t, s, `{"version":1,"kind":"test-echo"}`+"\n"); got != "{\"end\":true}\n" {
		t.Error(got)
	}
}

// TestFolders: folders that others have made or may use are passed over.
func TestFolders(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	uid := os.Geteuid()
	if err := errors.Join(os.Mkdir(path("open"), 0o700), os.Chmod(path("open"), 0o755), os.WriteFile(path("file"), nil, 0o600),
		os.Mkdir(path("real"), 0o700), os.Symlink(path("real"), path("link"))); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"open": "others than its user", "file": "no folder", "link": "no folder", "none/x": "no such file"} {
		if _, err := open([]string{path(name)}, uid); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := makeFolder(path("real"), uid+1); err == nil || !strings.Contains(err.Error(), "belongs to user") {
		t.Error(err)
	}
	s, err := open([]string{path("open"), path("real")}, uid)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if filepath.Dir(s.path) != path("real") {
		t.Error(s.path)
	}
	if i, err := os.Lstat(s.path); err != nil || i.Mode() != os.ModeSocket|0o600 {
		t.Error(i.Mode(), err)
	}
	if pid, ok := PID(filepath.Base(s.path)); !ok || pid != os.Getpid() {
		t.Error(s.path)
	}
}

// TestSweep: a start removes what dead processes left, and nothing else.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	alive, err := open([]string{dir}, os.Geteuid())
	if err != nil {
		t.Fatal(err)
	}
	defer alive.close()
	dead, path, err := listenIn(dir)
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close()
	// Beyond what a PID can be.
	left, other := filepath.Join(dir, "999999999-00000000.sock"), filepath.Join(dir, "notes")
	if err := errors.Join(os.Rename(path, left), os.WriteFile(other, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	s, err := open([]string{dir}, os.Geteuid())
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if _, err := os.Lstat(left); !os.IsNotExist(err) {
		t.Errorf("the dead process's is there: %v", err)
	}
	for _, p := range []string{alive.path, s.path, other} {
		if _, err := os.Lstat(p); err != nil {
			t.Error(err)
		}
	}
}

// TestOpen: the process has its socket from the first Open to the last Close.
func TestOpen(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	for range 2 {
		if err := Open(); err != nil {
			t.Fatal(err)
		}
	}
	path := process.server.path
	Close()
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
	Close()
	if _, err := os.Lstat(path); !os.IsNotExist(err) || process.server != nil {
		t.Error(err)
	}
}
