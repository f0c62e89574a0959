package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
)

// served is a release at work: its server runs in namespace A, its clients in B.
type served struct {
	*release
	t        *testing.T
	pair     *lab.Pair
	programs string // folder
	dir      string // for its files
	off      bool   // told to leave us alone
	server   *server
}

// serve starts the server of a release.
func (r *release) serve(t *testing.T, p *lab.Pair, programs string, off bool) *served {
	t.Helper()
	s := &served{release: r, t: t, pair: p, programs: programs, dir: t.TempDir(), off: off}
	if err := os.Chmod(filepath.Dir(s.dir), 0o755); err != nil { // for a server that is another user
		t.Fatal(err)
	}
	s.start()
	return s
}

// start starts the server, again if it ran before.
func (s *served) start() {
	s.t.Helper()
	args, env := s.command(s)
	if !s.client {
		env = append(env, s.carrier()...)
	}
	s.server = s.startServer(args, env)
	if s.settled != "" {
		s.settle(s.expand(s.settled))
	}
}

// settle waits until the server's answer to a client is what the configuration says.
func (s *served) settle(url string) {
	s.t.Helper()
	c := http.Client{Transport: &http.Transport{DialContext: s.pair.B.DialContext, DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, Timeout: time.Minute}
	var last string
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		r, err := c.Get(url)
		if err != nil {
			last = err.Error()
			continue
		}
		text, err := io.ReadAll(r.Body)
		s.must(errors.Join(err, r.Body.Close()))
		if last = string(text); strings.Contains(last, "answer") {
			return
		}
	}
	s.t.Fatalf("%s says %s", url, last)
}

// carrier is the environment that decides who carries the release's sockets.
func (s *served) carrier() []string {
	if s.off {
		return []string{"ONLOAD_INTERFACES=auto", "ONLOAD=off"}
	}
	return []string{"ONLOAD_INTERFACES=auto"}
}

// server is a server's process.
type server struct {
	*lab.Cmd
	end  chan string // its log
	once sync.Once
	log  string
}

// startServer starts a server's process.
func (s *served) startServer(args, env []string) *server {
	s.t.Helper()
	p := &server{Cmd: s.pair.A.Command(args[0], args[1:]...), end: make(chan string, 1)}
	p.Env = append(os.Environ(), env...)
	if s.user != 0 {
		p.SysProcAttr.Credential = credential(s.user)
	}
	log, err := p.StderrPipe()
	s.must(err)
	p.Stdout = p.Stderr
	s.must(p.Start())
	up := make(chan struct{})
	go func() {
		var text strings.Builder
		waiting := s.ready != ""
		in := bufio.NewReader(log)
		for {
			line, err := in.ReadString('\n')
			if text.Len() < 1<<20 {
				text.WriteString(line)
			}
			if waiting && strings.Contains(line, s.ready) {
				waiting = false
				close(up)
			}
			if err != nil {
				break
			}
		}
		p.end <- text.String()
	}()
	s.t.Cleanup(func() {
		p.kill()
		if s.t.Failed() {
			s.t.Logf("%s says\n%s", args[0], p.log)
		}
	})
	if s.ready == "" {
		go s.probe(up)
	}
	select {
	case <-up:
	case <-time.After(time.Minute):
		s.t.Fatalf("%s is not ready", args[0])
	}
	return p
}

// probe closes up when the server accepts connections.
func (s *served) probe(up chan struct{}) {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if c, err := s.pair.B.Dial("tcp", net.JoinHostPort(s.pair.A.Addr4.String(), s.port)); err == nil {
			c.Close()
			close(up)
			return
		}
	}
}

func credential(user uint32) *syscall.Credential { return &syscall.Credential{Uid: user, Gid: user} }

// kill kills the server, and returns when its process has gone.
func (s *server) kill() {
	s.once.Do(func() {
		_ = s.Process.Kill()
		s.log = <-s.end
		_ = s.Wait()
	})
}

// load is how much a client asks.
type load struct {
	users    int
	renew    int // requests for each connection; 0: any number
	time     time.Duration
	requests int // 0: as many as there is time for
}

// report is what a client has found: bench/apps/client's words.
type report struct {
	Requests, Sessions, Errors int
	First                      string
	Seconds                    float64
	P50, P99                   int // microseconds
	Early, Late                struct{ Goroutines, Files, Memory int }
}

// client returns the use of a server by bench/apps/client: kind is a protocol of it, the
// arguments may say $A and $B for the namespaces' addresses, $6 for A's of IPv6, $DIR
// for the folder of the server's files, and $BIN for that of the programs.
func client(name, kind string, args ...string) use {
	return use{name: name, command: func(s *served, l load) []string {
		line := []string{filepath.Join(s.clients(), "client"), "-kind", kind,
			"-users", strconv.Itoa(l.users), "-renew", strconv.Itoa(l.renew), "-requests", strconv.Itoa(l.requests)}
		if l.time > 0 {
			line = append(line, "-for", l.time.String())
		}
		for _, a := range args {
			line = append(line, s.expand(a))
		}
		return line
	}}
}

func (s *served) expand(text string) string {
	return strings.NewReplacer("$BIN", s.programs, "$A", s.pair.A.Addr4.String(), "$B", s.pair.B.Addr4.String(),
		"$6", s.pair.A.Addr6.String(), "$DIR", s.dir).Replace(text)
}

// clients is the folder of the client: built by onload build if it is what is tested.
func (s *served) clients() string {
	if s.client {
		return s.programs
	}
	return filepath.Join(filepath.Dir(s.programs), "plain")
}

// prepare returns a client's command.
func (s *served) prepare(u use, l load) *lab.Cmd {
	args := append(strings.Fields(*clientPrefix), u.command(s, l)...)
	c := s.pair.B.Command(args[0], args[1:]...)
	if s.client {
		c.Env = append(os.Environ(), s.carrier()...)
	}
	return c
}

// use uses the server, and fails the test where a user met an error.
func (s *served) use(t *testing.T, u use, l load) *report {
	t.Helper()
	out, err := s.prepare(u, l).Output()
	var r *report
	if err == nil {
		if u.report != nil {
			r, err = u.report(string(out))
		} else {
			err = json.Unmarshal(out, &r)
		}
	}
	if ee, ok := err.(*exec.ExitError); ok {
		err = fmt.Errorf("%w\n%s", ee, ee.Stderr)
	}
	if err != nil {
		t.Errorf("%s: %v\n%s", u.name, err, out)
		return new(report)
	}
	if r.Errors > 0 || r.Requests == 0 {
		t.Errorf("%s: %d errors in %d requests, the first: %s", u.name, r.Errors, r.Requests, r.First)
	}
	return r
}

// kernelCarried returns how many TCP connections the kernel has opened and accepted, and
// how many datagrams of UDP it has delivered, in the release's namespace.
func (s *served) kernelCarried() int {
	ns := s.pair.A
	if s.client {
		ns = s.pair.B
	}
	var text, text6 []byte
	err := ns.Do(func() error {
		var err, err6 error
		text, err = os.ReadFile("/proc/thread-self/net/snmp")
		text6, err6 = os.ReadFile("/proc/thread-self/net/snmp6")
		return errors.Join(err, err6)
	})
	s.must(err)
	counters := map[string]bool{"Tcp:ActiveOpens": true, "Tcp:PassiveOpens": true, "Udp:InDatagrams": true, "Udp6InDatagrams": true}
	var sum int
	count := func(name, value string) {
		if counters[name] {
			n, err := strconv.Atoi(value)
			s.must(err)
			sum += n
		}
	}
	var names []string
	for line := range strings.Lines(string(text)) { // of names, then of values
		f := strings.Fields(line)
		if names == nil {
			names = f
			continue
		}
		for i, name := range names {
			count(f[0]+name, f[i])
		}
		names = nil
	}
	for line := range strings.Lines(string(text6)) {
		if f := strings.Fields(line); len(f) == 2 {
			count(f[0], f[1])
		}
	}
	return sum
}
