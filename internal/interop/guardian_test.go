package interop

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/testlong"
	onload "github.com/onload-go/onload/net"
)

const (
	mournedEnv  = "ONLOAD_TEST_MOURNED"
	becomeOther = 'x' // to TestMourned's input
)

// TestMourned is the process that the tests below kill. It listens on a port of all its
// addresses, dials those that it is told, and keeps all connections.
func TestMourned(t *testing.T) {
	args := strings.Fields(os.Getenv(mournedEnv))
	if len(args) == 0 {
		return // only in the child
	}
	os.Unsetenv(mournedEnv)
	e, err := onload.New(onload.Config{Interfaces: args[:1], Guardian: args[1]})
	if err != nil {
		t.Fatal(err)
	}
	l, err := e.Listen("tcp", ":7000")
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range args[2:] {
		c, err := e.Dial("tcp", to)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	for strings.HasPrefix(e.Guardian(), "starting") {
		time.Sleep(time.Millisecond)
	}
	fmt.Println("guardian:", e.Guardian())
	go func() { // quits in order, or becomes another program, where its input says so
		b := make([]byte, 1)
		switch _, err := os.Stdin.Read(b); {
		case err != nil:
		case b[0] == becomeOther:
			_ = syscall.Exec("/bin/sleep", []string{"sleep", "1000"}, nil)
		default:
			_ = e.Close()
			os.Exit(0)
		}
	}()
	echoAll(l)
}

// mourned is the process of TestMourned and its peers.
type mourned struct {
	*lab.Cmd
	guardian string // as the process names it
	peers    map[string]net.Conn
	quit     io.Closer
}

// mourn starts TestMourned in pair.A, with connections of each kind to kernel sockets in
// pair.B.
func mourn(t *testing.T, pair *lab.Pair, guardian string) *mourned {
	t.Helper()
	m := &mourned{peers: map[string]net.Conn{}}
	listeners := map[string]net.Listener{}
	args := []string{pair.A.If, guardian}
	for name, addr := range map[string]netip.Addr{"dialled v4": pair.B.Addr4, "dialled v6": pair.B.Addr6} {
		l := listenOn(t, pair.B, addr)
		listeners[name] = l
		args = append(args, l.Addr().String())
	}
	m.Cmd = pair.A.Command("/proc/self/exe", "-test.run=^TestMourned$")
	m.Env = append(os.Environ(), mournedEnv+"="+strings.Join(args, " "))
	m.Stderr = os.Stderr
	in, err := m.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	m.quit = in
	out, err := m.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = m.Process.Kill()
		_ = m.Wait()
	})
	for r := bufio.NewReader(out); ; {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatal("the process did not start: ", err)
		}
		if g, ok := strings.CutPrefix(line, "guardian: "); ok {
			m.guardian = strings.TrimSpace(g)
			break
		}
	}
	keep := func(name string, c net.Conn, err error) {
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		t.Cleanup(func() { c.Close() })
		m.peers[name] = c
	}
	for name, l := range listeners {
		c, err := l.Accept()
		keep(name, c, err)
	}
	for name, addr := range map[string]netip.Addr{"accepted v4": pair.A.Addr4, "accepted v6": pair.A.Addr6} {
		for _, used := range []string{"", ", used"} {
			c, err := pair.B.Dial("tcp", netip.AddrPortFrom(addr, 7000).String())
			keep(name+used, c, err)
			trips := 1 // else the process may be in the middle of the handshake
			if used != "" {
				trips = 100
			}
			for range trips {
				if err := pingPong(c, hung); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return m
}

// pid is the guardian's.
func (m *mourned) pid(t *testing.T) int {
	t.Helper()
	f := strings.Fields(m.guardian)
	if len(f) < 2 || f[0] != "process" {
		t.Fatalf("no guardian: %s", m.guardian)
	}
	pid, err := strconv.Atoi(f[1])
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// learns returns how long each peer waits until it is reset, from now on; limit where it
// is not.
func (m *mourned) learns(limit time.Duration) map[string]time.Duration {
	type learnt struct {
		name  string
		after time.Duration
	}
	start := time.Now()
	ch := make(chan learnt, len(m.peers))
	for name, c := range m.peers {
		go func() {
			_ = c.SetReadDeadline(start.Add(limit))
			_, err := c.Read(make([]byte, 1))
			if l := (learnt{name, time.Since(start)}); errors.Is(err, syscall.ECONNRESET) {
				ch <- l
			} else {
				ch <- learnt{name, limit}
			}
		}()
	}
	of := map[string]time.Duration{}
	for range m.peers {
		l := <-ch
		of[l.name] = l.after
	}
	return of
}

func ended(t *testing.T, pid int) {
	t.Helper()
	settled(t, hung, func() error {
		if err := unix.Kill(pid, 0); err != unix.ESRCH {
			return fmt.Errorf("the guardian %d is still there: %v", pid, err)
		}
		return nil
	})
}

// TestGuardian: all peers of a killed process are reset, soon, by its guardian, which then
// ends. Without a guardian they are not.
func TestGuardian(t *testing.T) {
	pair := lab.NewPair(t, lab.Options{})
	m := mourn(t, pair, "self")
	pid := m.pid(t)
	if err := m.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for name, after := range m.learns(hung) {
		if after >= hung {
			t.Errorf("%s: not told", name)
		}
		t.Logf("%s: after %v", name, after)
	}
	ended(t, pid)

	m = mourn(t, pair, "off")
	if !strings.HasPrefix(m.guardian, "none") {
		t.Fatal(m.guardian)
	}
	if err := m.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	const short = 500 * time.Millisecond
	for name, after := range m.learns(short) {
		// The others' kernel may owe an acknowledgement, which asks too.
		if after < short && strings.HasPrefix(name, "dialled") {
			t.Errorf("%s: told after %v, by nobody", name, after)
		}
	}
}

// A stopped process keeps its connections, and one that closes its engine has its
// guardian end.
func TestGuardianWaits(t *testing.T) {
	pair := lab.NewPair(t, lab.Options{})
	m := mourn(t, pair, "self")
	pid := m.pid(t)
	if err := m.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	const short = 300 * time.Millisecond
	for name, after := range m.learns(short) {
		if after < short {
			t.Errorf("%s: reset while the process was stopped", name)
		}
	}
	if err := m.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := pingPong(m.peers["accepted v4"], hung); err != nil {
		t.Error(err)
	}
	// The guardian is not meant by signals to the whole service.
	if err := errors.Join(unix.Kill(pid, unix.SIGTERM), unix.Kill(pid, unix.SIGHUP), unix.Kill(pid, unix.SIGINT)); err != nil {
		t.Fatal(err)
	}
	if err := pingPong(m.peers["accepted v6"], hung); err != nil {
		t.Error(err)
	}
	if err := unix.Kill(pid, 0); err != nil {
		t.Errorf("the guardian has ended: %v", err)
	}
	if _, err := m.quit.(io.Writer).Write([]byte{1}); err != nil {
		t.Fatal(err)
	}
	ended(t, pid)
}

// TestGuardianExec: a process that executes another program loses its connections, and its
// peers are told, though it lives on.
func TestGuardianExec(t *testing.T) {
	pair := lab.NewPair(t, lab.Options{})
	m := mourn(t, pair, "self")
	pid := m.pid(t)
	if _, err := m.quit.(io.Writer).Write([]byte{becomeOther}); err != nil {
		t.Fatal(err)
	}
	for name, after := range m.learns(hung) {
		if after >= hung {
			t.Errorf("%s: not told", name)
		}
	}
	if err := unix.Kill(m.Process.Pid, 0); err != nil {
		t.Errorf("the process has ended: %v", err)
	}
	if err := m.Process.Kill(); err != nil { // which waits for no child
		t.Fatal(err)
	}
	ended(t, pid)
}

// TestGuardianMany kills processes at random times.
func TestGuardianMany(t *testing.T) {
	pair := lab.NewPair(t, lab.Options{})
	var all []time.Duration
	var guardians []int
	for range testlong.Pick(3, 100) {
		m := mourn(t, pair, "self")
		guardians = append(guardians, m.pid(t))
		stop := make(chan struct{})
		busy := []string{"accepted v4, used", "accepted v6, used"}
		for _, name := range busy {
			c := m.peers[name]
			delete(m.peers, name)
			go func() {
				for pingPong(c, hung) == nil {
				}
				stop <- struct{}{}
			}()
		}
		time.Sleep(rand.N(20 * time.Millisecond))
		if err := m.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for range busy {
			<-stop
			all = append(all, time.Since(start))
		}
		waited := time.Since(start)
		for name, after := range m.learns(hung) {
			if after >= hung {
				t.Errorf("%s: not told", name)
			}
			all = append(all, after+waited)
		}
		_ = m.Wait()
	}
	for _, pid := range guardians {
		ended(t, pid)
	}
	slices.Sort(all)
	t.Logf("%d connections told after %v (median), %v (99 %%), %v (last)", len(all), all[len(all)/2], all[len(all)*99/100], all[len(all)-1])
}
