package broker_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/broker"
	"github.com/onload-go/onload/internal/broker/policy"
	"github.com/onload-go/onload/internal/lab"
	_ "github.com/onload-go/onload/internal/testlong" // go test ./... -long
)

// patience is how long a test waits for what has to come.
const patience = time.Minute

func TestMain(m *testing.M) {
	if role := os.Getenv(roleEnv); role != "" {
		child(role)
		return
	}
	os.Exit(lab.OwnMounts(m.Run))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// await waits until ok holds.
func await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// network is two hosts. A's interface is shared by a broker.
type network struct {
	*lab.Pair
	t      testing.TB
	dir    string // of the broker's socket and pins
	policy string
	more   []string      // interfaces of A that are shared, too
	wait   time.Duration // ResumeWait
	b      *broker.Broker
	stop   func() // ends Serve
}

const everybody = "[[allow]]\nusers = [\"*\"]\ninterfaces = [\"*\"]\n"

func newNetwork(t testing.TB, o lab.Options, policy string) *network {
	t.Helper()
	p := lab.NewPair(t, o)
	dir, err := os.MkdirTemp("", "broker")
	must(t, err)
	must(t, os.Chmod(dir, 0o755)) // clients have another user
	w := &network{Pair: p, t: t, dir: dir, policy: policy}
	t.Cleanup(func() {
		if w.b != nil {
			w.end(true)
		}
		if err := unix.Unmount(filepath.Join(dir, "pins"), unix.MNT_DETACH); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
			t.Error(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	w.begin()
	return w
}

func (w *network) socket() string { return filepath.Join(w.dir, "run", "broker.sock") }

// begin starts a broker in this process.
func (w *network) begin() {
	w.t.Helper()
	p, err := policy.Parse([]byte(w.policy))
	must(w.t, err)
	log := zap.NewNop()
	if testing.Verbose() {
		log, _ = zap.NewDevelopment()
	}
	w.b, err = broker.Open(broker.Config{
		Socket: w.socket(), Interfaces: append([]string{w.A.If}, w.more...), PinDir: filepath.Join(w.dir, "pins"), Policy: p, InNS: w.A.Do, Log: log,
		ResumeWait: w.wait,
	})
	must(w.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.b.Serve(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	}
}

// end ends the broker. links says that its links end, too.
func (w *network) end(links bool) {
	w.t.Helper()
	w.stop()
	part := (*broker.Broker).Detach
	if links {
		part = (*broker.Broker).Close
	}
	if err := part(w.b); err != nil {
		w.t.Error(err)
	}
	w.b = nil
}

// process is a client: the test binary with a role, as nobody without capabilities.
type process struct {
	*lab.Cmd
	t     testing.TB
	in    io.WriteCloser
	out   *bufio.Reader
	trace *lockedBuffer
}

// start starts a process on A.
func (w *network) start(role string, env ...string) *process {
	w.t.Helper()
	return w.run(w.A.Nobody(w.t, nil, 0), role, env...)
}

// startRoot starts a process on A as root.
func (w *network) startRoot(role string, env ...string) *process {
	w.t.Helper()
	return w.run(w.A.Command("/proc/self/exe"), role, env...)
}

func (w *network) run(c *lab.Cmd, role string, env ...string) *process {
	w.t.Helper()
	p := &process{Cmd: c, t: w.t, trace: &lockedBuffer{}}
	level := "warn"
	if testing.Verbose() {
		level = "debug"
	}
	c.Env = append(os.Environ(), roleEnv+"="+role, "ONLOAD_INTERFACES="+w.A.If, "ONLOAD_BROKER="+w.socket(), "ONLOAD_LOG="+level,
		"ONLOAD_FRAMES=4096", "ONLOAD_RING_SIZE=1024")
	c.Env = append(c.Env, env...)
	c.Stderr = p.trace
	var err error
	p.in, err = c.StdinPipe()
	must(w.t, err)
	out, err := c.StdoutPipe()
	must(w.t, err)
	p.out = bufio.NewReader(out)
	must(w.t, c.Start())
	w.t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		if w.t.Failed() {
			w.t.Logf("%s wrote:\n%s", role, p.trace)
		}
	})
	return p
}

// line returns the next line that the process writes.
func (p *process) line() string {
	p.t.Helper()
	type result struct {
		s   string
		err error
	}
	c := make(chan result, 1)
	go func() {
		s, err := p.out.ReadString('\n')
		c <- result{strings.TrimSuffix(s, "\n"), err}
	}()
	select {
	case r := <-c:
		if r.err != nil {
			p.t.Fatalf("the process ends: %v\n%s", r.err, p.trace)
		}
		return r.s
	case <-time.After(patience):
		p.t.Fatalf("the process writes nothing\n%s", p.trace)
	}
	return ""
}

// ask writes a line, and returns the process's.
func (p *process) ask(format string, args ...any) string {
	p.t.Helper()
	if _, err := fmt.Fprintf(p.in, format+"\n", args...); err != nil {
		p.t.Fatalf("%v\n%s", err, p.trace)
	}
	return p.line()
}

// want is ask for an answer that is known.
func (p *process) want(answer, format string, args ...any) {
	p.t.Helper()
	if got := p.ask(format, args...); got != answer {
		p.t.Fatalf("%s: %q instead of %q\n%s", fmt.Sprintf(format, args...), got, answer, p.trace)
	}
}

// lockedBuffer is written by one goroutine and read by another.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// echo sends from a kernel socket of host from, n times, and wants the same back.
func echo(from *lab.NS, network string, to netip.AddrPort, n int) error {
	c, err := from.Dial(network, to.String())
	if err != nil {
		return err
	}
	defer c.Close()
	return echoOver(c, n)
}

func echoOver(c net.Conn, n int) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, ok := c.(net.PacketConn); ok {
		return echoDatagrams(c, n)
	}
	buf := make([]byte, 2048)
	for i := range n {
		msg := fmt.Appendf(nil, "message %d", i)
		if _, err := c.Write(msg); err != nil {
			return err
		}
		k, err := io.ReadFull(c, buf[:len(msg)])
		if err != nil || !bytes.Equal(buf[:k], msg) {
			return fmt.Errorf("%q came back as %q: %w", msg, buf[:k], err)
		}
	}
	return nil
}

// echoDatagrams is echoOver for datagrams. A busy machine may lose some, so they are sent
// again until they come back.
func echoDatagrams(c net.Conn, n int) error {
	const again = time.Second
	buf := make([]byte, 2048)
	for i := range n {
		msg := fmt.Appendf(nil, "message %d", i)
		for end := time.Now().Add(patience); ; {
			if _, err := c.Write(msg); err != nil {
				return err
			}
			if err := c.SetReadDeadline(time.Now().Add(again)); err != nil {
				return err
			}
			k, err := c.Read(buf)
			for err == nil && !bytes.Equal(buf[:k], msg) { // an answer of before
				k, err = c.Read(buf)
			}
			if err == nil {
				break
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) || time.Now().After(end) {
				return fmt.Errorf("%q does not come back: %w", msg, err)
			}
		}
	}
	return nil
}

// echoServers are kernel sockets on host ns that send back what they get, on one port.
func echoServers(t testing.TB, ns *lab.NS, addr netip.Addr, port uint16) {
	t.Helper()
	at := netip.AddrPortFrom(addr, port).String()
	l, err := ns.Listen("tcp", at)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	u, err := ns.ListenPacket("udp", at)
	must(t, err)
	t.Cleanup(func() { u.Close() })
	go serveTCP(l)
	go serveUDP(u)
}

func serveTCP(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			_, _ = io.Copy(c, c)
			c.Close()
		}()
	}
}

func serveUDP(u net.PacketConn) {
	buf := make([]byte, 65536)
	for {
		n, from, err := u.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = u.WriteTo(buf[:n], from)
	}
}
