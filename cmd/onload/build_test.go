package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/overlay"
	"github.com/onload-go/onload/internal/testlong"
)

// goTool runs the go command of `onload verb args...` in dir.
func goTool(t testing.TB, dir, verb string, args ...string) string {
	t.Helper()
	t.Chdir(dir)
	c, err := overlay.Build(verb, args)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(c.Path, c.Args[1:]...)
	cmd.Env, cmd.Dir = c.Env, dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("onload %s %v: %v\n%s", verb, args, err, out)
	}
	return string(out)
}

// module writes a module of its own with these files, and returns its folder.
func module(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// talk builds testdata/talk, which knows nothing of us, as a module of its own.
func talk(t *testing.T) string {
	t.Helper()
	dir := module(t, map[string]string{
		"go.mod":  "module example.com/talk\n\ngo 1.25.0\n",
		"main.go": read(t, "testdata/talk/main.go"), "options.go": read(t, "testdata/talk/options.go"),
	})
	goTool(t, dir, "build", "-o", "talk", ".")
	return filepath.Join(dir, "talk")
}

// process is a program that has said "ready", with the port of its open connection if
// it has one, and goes on until its input ends.
type process struct {
	*lab.Cmd
	port uint16
}

// start runs a program in ns until it is ready.
func start(t *testing.T, ns *lab.NS, env []string, name string, args ...string) *process {
	t.Helper()
	p := &process{Cmd: ns.Command(name, args...)}
	p.Env = append(os.Environ(), env...)
	var log strings.Builder
	p.Stderr = &log
	in, err := p.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = in.Close() })
	first := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(out).ReadString('\n')
		first <- line
	}()
	select {
	case line := <-first:
		if _, err := fmt.Sscanf(line, "ready %d\n", &p.port); err != nil {
			_ = p.Process.Kill()
			_ = p.Wait()
			t.Fatalf("%v says %q\n%s", args, line, log.String())
		}
	case <-time.After(time.Minute):
		t.Fatalf("%v is not ready", args)
	}
	return p
}

// established reports whether the kernel of the process's namespace has an open
// connection from or to a port. The port is a client's own: no other connection has it.
func established(t *testing.T, pid int, port uint16) bool {
	t.Helper()
	const state = "01" // TCP_ESTABLISHED
	suffix := fmt.Sprintf(":%04X", port)
	for _, name := range []string{"tcp", "tcp6"} {
		for line := range strings.Lines(read(t, fmt.Sprintf("/proc/%d/net/%s", pid, name))) {
			f := strings.Fields(line)
			if len(f) > 3 && f[3] == state && (strings.HasSuffix(f[1], suffix) || strings.HasSuffix(f[2], suffix)) {
				return true
			}
		}
	}
	return false
}

// TestBuild: an unmodified program that `onload build` has made serves and asks over
// AF_XDP, with a peer on the kernel. The kernel of its own namespace has no such
// connection, but has it when the program is told to leave us alone.
func TestBuild(t *testing.T) {
	lab.NeedRoot(t)
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	program := talk(t)
	if out, err := exec.Command("go", "version", "-m", program).Output(); err != nil || !strings.Contains(string(out), "-tags="+overlay.Tag) {
		t.Errorf("go version -m does not show it: %v\n%s", err, out)
	}
	for _, c := range []struct {
		name               string
		client, server     []string // environments
		atClient, atServer bool     // what the kernels know
	}{
		{"serves", nil, []string{"ONLOAD_INTERFACES=auto"}, true, false},
		{"asks", []string{"ONLOAD_INTERFACES=auto"}, nil, false, true},
		{"is off", nil, []string{"ONLOAD_INTERFACES=auto", "ONLOAD=off"}, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := lab.NewPair(t, lab.Options{})
			server := start(t, p.A, c.server, program, "serve", "")
			client := start(t, p.B, c.client, program, "ask", p.A.Addr4.String())
			if got := established(t, server.Process.Pid, client.port); got != c.atServer {
				t.Errorf("the server's kernel has the connection: %v", got)
			}
			if got := established(t, client.Process.Pid, client.port); got != c.atClient {
				t.Errorf("the client's kernel has the connection: %v", got)
			}
			start(t, p.B, c.client, program, "ask", net.IP(p.A.Addr6.AsSlice()).String())
		})
	}
	if testlong.Enabled() { // it builds all of the module again
		t.Run("both packages", func(t *testing.T) { bothPackages(t, root, program) })
	}
}

// bothPackages: a program that also imports Onload's package has one engine. Its
// connections of either package are accelerated.
func bothPackages(t *testing.T, root, server string) {
	both := filepath.Join(t.TempDir(), "both")
	goTool(t, root, "build", "-o", both, "./cmd/onload/testdata/both")
	for _, more := range []string{"ONLOAD=on", "ONLOAD=off"} { // off: the library's own engine
		p := lab.NewPair(t, lab.Options{})
		s := start(t, p.A, nil, server, "serve", "")
		c := start(t, p.B, []string{"ONLOAD_INTERFACES=auto", more}, both, p.A.Addr4.String())
		if !established(t, s.Process.Pid, c.port) || established(t, c.Process.Pid, c.port) {
			t.Errorf("%s: the client's kernel has the connection, or the server's has not", more)
		}
	}
}
