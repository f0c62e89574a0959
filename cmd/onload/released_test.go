package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/need"
	"github.com/onload-go/onload/internal/testlong"
)

// released returns a folder with a release from the module proxy, as it is but for the
// permission to write: the go command lets nobody add to main packages of its cache.
func released(t *testing.T, module string) string {
	t.Helper()
	c := exec.Command("go", "mod", "download", "-json", module)
	c.Dir = t.TempDir()
	out, err := c.Output()
	var m struct{ Dir string }
	if jerr := json.Unmarshal(out, &m); err != nil || jerr != nil || m.Dir == "" {
		need.Missing(t, "the module proxy for %s: %v\n%s", module, err, out)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(m.Dir)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// server starts a program in ns and waits until its log has a line with the text ready.
func server(t *testing.T, ns *lab.NS, env []string, ready string, name string, args ...string) *lab.Cmd {
	t.Helper()
	c := ns.Command(name, args...)
	c.Env = append(os.Environ(), env...)
	log, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	up, end := make(chan struct{}), make(chan string, 1)
	go func() {
		var text strings.Builder
		waiting := true
		for s := bufio.NewScanner(log); s.Scan(); {
			fmt.Fprintln(&text, s.Text())
			if waiting && strings.Contains(s.Text(), ready) {
				waiting = false
				close(up)
			}
		}
		end <- text.String()
	}()
	t.Cleanup(func() {
		_ = c.Process.Kill()
		text := <-end
		_ = c.Wait()
		if t.Failed() {
			t.Logf("%s says\n%s", name, text)
		}
	})
	select {
	case <-up:
	case <-time.After(time.Minute):
		t.Fatalf("%s is not ready", name)
	}
	return c
}

// opens returns how many TCP connections the kernel of a process's namespace has
// opened, and how many it has accepted.
func opens(t *testing.T, pid int) (active, passive int) {
	t.Helper()
	var names []string
	for line := range strings.Lines(read(t, fmt.Sprintf("/proc/%d/net/snmp", pid))) {
		f := strings.Fields(line)
		switch {
		case f[0] != "Tcp:":
		case names == nil:
			names = f
		default:
			for i, name := range names {
				switch name {
				case "ActiveOpens":
					active, _ = strconv.Atoi(f[i])
				case "PassiveOpens":
					passive, _ = strconv.Atoi(f[i])
				}
			}
		}
	}
	return active, passive
}

// TestReleased: releases from the module proxy, built as they are, serve over AF_XDP:
// the kernel of their namespace accepts nothing, but does when they are told to leave
// us alone.
func TestReleased(t *testing.T) {
	lab.NeedRoot(t)
	if !testlong.Enabled() {
		t.Skip("builds large programs; -long")
	}
	out := t.TempDir()
	goTool(t, released(t, "github.com/nats-io/nats-server/v2@v2.15.3"), "build", "-o", out+"/nats", ".")
	goTool(t, released(t, "google.golang.org/grpc@v1.85.0"), "build", "-o", out+"/", "./interop/server", "./interop/client")
	for _, c := range []struct {
		name, ready, server string
		args                []string
		use                 func(t *testing.T, p *lab.Pair)
	}{
		{"nats-server", "Server is ready", "nats", []string{"-a", "0.0.0.0", "-p", "4222"}, publish},
		{"gRPC", "listening on", "server", []string{"-port=10000"}, func(t *testing.T, p *lab.Pair) { pingPong(t, p, out+"/client") }},
	} {
		for _, off := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s off=%v", c.name, off), func(t *testing.T) {
				p := lab.NewPair(t, lab.Options{})
				env := []string{"ONLOAD_INTERFACES=auto", "GRPC_GO_LOG_SEVERITY_LEVEL=info"}
				if off {
					env = append(env, "ONLOAD=off")
				}
				s := server(t, p.A, env, c.ready, out+"/"+c.server, c.args...)
				c.use(t, p)
				if _, n := opens(t, s.Process.Pid); n > 0 != off {
					t.Errorf("the server's kernel has accepted %d connections", n)
				}
			})
		}
	}
}

// publish sends messages to a NATS server and receives them from it.
func publish(t *testing.T, p *lab.Pair) {
	c, err := p.B.Dial("tcp", net.JoinHostPort(p.A.Addr4.String(), "4222"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	const messages = 10_000
	sent := make(chan error, 1)
	go func() {
		w := bufio.NewWriter(c)
		fmt.Fprint(w, "CONNECT {\"verbose\":false}\r\nSUB subject 1\r\n")
		for i := range messages {
			fmt.Fprintf(w, "PUB subject 8\r\n%08d\r\n", i)
		}
		sent <- w.Flush()
	}()
	r := bufio.NewReader(c)
	for i := 0; i < messages; {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("after %d messages: %v", i, err)
		}
		if !strings.HasPrefix(line, "MSG ") {
			if strings.HasPrefix(line, "-ERR") {
				t.Fatal(line)
			}
			continue // INFO
		}
		b := make([]byte, 10)
		if _, err := io.ReadFull(r, b); err != nil || string(b) != fmt.Sprintf("%08d\r\n", i) {
			t.Fatalf("message %d is %q, %v", i, b, err)
		}
		i++
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
}

// pingPong runs cases of gRPC's own interoperability client, over the kernel.
func pingPong(t *testing.T, p *lab.Pair, client string) {
	for _, name := range []string{"empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "cancel_after_first_response"} {
		c := p.B.Command(client, "-server_host="+p.A.Addr4.String(), "-server_port=10000", "-test_case="+name)
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}
