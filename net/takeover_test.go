package onload_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/testlong"
	onload "github.com/onload-go/onload/net"
)

// passed is a listener's descriptor as another process gets it: a copy.
func passed(t *testing.T, l interface{ File() (*os.File, error) }) *os.File {
	t.Helper()
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// TestListenerFile: from File on new clients are the kernel's, and whoever accepts first
// has them. Those who came before are Accept's. None is taken from the kernel for an
// Accept that nobody calls.
func TestListenerFile(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	for _, host := range []string{p.A.Addr4.String(), p.A.Addr6.String()} {
		ln, err := e.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		before := dialFrom(t, p.B, ln.Addr().String())
		child, err := net.FileListener(passed(t, ln.(*onload.TCPListener)))
		if err != nil {
			t.Fatal(err)
		}
		defer child.Close()
		if path := onload.PathOf(ln); path.Accelerated {
			t.Errorf("after File: %v", path)
		}
		if c := acceptOf(t, ln, before); !onload.PathOf(c).Accelerated {
			t.Errorf("a client of before: %v", onload.PathOf(c))
		}
		for range 3 { // nobody accepts with ln
			acceptOf(t, child, dialFrom(t, p.B, ln.Addr().String()))
		}
		for range 3 { // nobody accepts with child
			acceptOf(t, ln, dialFrom(t, p.B, ln.Addr().String()))
		}
		setDeadline(t, ln, time.Now().Add(time.Millisecond))
		if _, err := ln.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Accept with a deadline: %v", err)
		}
		late := dialFrom(t, p.B, ln.Addr().String())
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
		if err := ln.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a second Close: %v", err)
		}
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept of a closed listener: %v", err)
		}
		acceptOf(t, child, late)
		acceptOf(t, child, dialFrom(t, p.B, ln.Addr().String()))
	}
}

func setDeadline(t *testing.T, ln net.Listener, at time.Time) {
	t.Helper()
	if err := ln.(interface{ SetDeadline(time.Time) error }).SetDeadline(at); err != nil {
		t.Error(err)
	}
}

func dialFrom(t *testing.T, ns *lab.NS, at string) net.Conn {
	t.Helper()
	c, err := ns.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// acceptOf accepts c, which has been dialed, at ln, and has both ends speak.
func acceptOf(t *testing.T, ln net.Listener, c net.Conn) net.Conn {
	t.Helper()
	setDeadline(t, ln, time.Now().Add(hang))
	defer setDeadline(t, ln, time.Time{})
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if got, want := s.RemoteAddr().String(), c.LocalAddr().String(); got != want {
		t.Fatalf("the client is %s, want %s", got, want)
	}
	speak(t, s, c)
	speak(t, c, s)
	return s
}

func speak(t *testing.T, from, to net.Conn) {
	t.Helper()
	_ = to.SetDeadline(time.Now().Add(hang))
	b := []byte("x")
	if _, err := from.Write(b); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(to, b); err != nil {
		t.Fatal(err)
	}
}

// TestPassed: sockets that change between this process and others, as their functions say.
func TestPassed(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	for _, tt := range []struct {
		name string
		test func(t *testing.T, p *lab.Pair, e *onload.Engine)
	}{
		{"FileListener", fileListener},
		{"FileListener by the kernel", fileListenerKernel},
		{"FilePacketConn", filePacketConn},
		{"UDPConn.File under load", udpFileUnderLoad},
	} {
		t.Run(tt.name, func(t *testing.T) { tt.test(t, p, e) })
	}
}

// fileListener: a kernel listener that was passed is taken over. Its connections
// live on, and the client that waits in its queue is accepted.
func fileListener(t *testing.T, p *lab.Pair, e *onload.Engine) {
	for _, address := range []string{net.JoinHostPort(p.A.Addr4.String(), "0"), net.JoinHostPort(p.A.Addr6.String(), "0"), ":0"} {
		k, err := p.A.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		at := net.JoinHostPort(p.A.Addr4.String(), portOf(k))
		if address[0] != ':' {
			at = k.Addr().String()
		}
		c := dialFrom(t, p.B, at)
		s := acceptOf(t, k, c)
		waiting := dialFrom(t, p.B, at)
		ln, err := e.FileListener(passed(t, k.(*net.TCPListener)))
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		if path := onload.PathOf(ln); !path.Accelerated {
			t.Fatal(path)
		}
		acceptOf(t, ln, waiting)
		speak(t, c, s)
		speak(t, s, c)
		if c := acceptOf(t, ln, dialFrom(t, p.B, at)); !onload.PathOf(c).Accelerated {
			t.Errorf("%s: %v", address, onload.PathOf(c))
		}
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
		speak(t, c, s)
		acceptOf(t, k, dialFrom(t, p.B, at))
	}
}

// fileListenerKernel: what cannot be taken over the kernel carries.
func fileListenerKernel(t *testing.T, p *lab.Pair, e *onload.Engine) {
	elsewhere, err := p.B.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer elsewhere.Close()
	local, err := p.A.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	for _, k := range []net.Listener{elsewhere, local} {
		ln, err := e.FileListener(passed(t, k.(*net.TCPListener)))
		if err != nil {
			t.Fatal(err)
		}
		if path := onload.PathOf(ln); path.Accelerated || path.Reason == "" {
			t.Error(path)
		}
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
	}
}

// filePacketConn: a kernel's UDP socket that was passed is taken over, and what waits
// there is read.
func filePacketConn(t *testing.T, p *lab.Pair, e *onload.Engine) {
	for _, host := range []string{p.A.Addr4.String(), p.A.Addr6.String()} {
		k, err := p.A.ListenPacket("udp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		defer k.Close()
		c, err := p.B.Dial("udp", k.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte("before")); err != nil {
			t.Fatal(err)
		}
		u, err := e.FilePacketConn(passed(t, k.(*net.UDPConn)))
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		if path := onload.PathOf(u); !path.Accelerated {
			t.Fatal(path)
		}
		for _, want := range []string{"before", "after"} {
			if got := readOne(t, u); got != want {
				t.Errorf("read %q, want %q", got, want)
			}
			if _, err := c.Write([]byte("after")); err != nil {
				t.Fatal(err)
			}
		}
		// And back to the kernel, with what nobody has read: the last "after".
		back, err := net.FilePacketConn(passed(t, u.(*onload.UDPConn)))
		if err != nil {
			t.Fatal(err)
		}
		defer back.Close()
		if got := readOne(t, back); got != "after" {
			t.Errorf("the kernel has %q", got)
		}
	}
}

func readOne(t *testing.T, c net.PacketConn) string {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(hang))
	b := make([]byte, 64)
	n, _, err := c.ReadFrom(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

// udpFileUnderLoad: datagrams that come while File is called are read, each once, by
// the socket or its copy.
func udpFileUnderLoad(t *testing.T, p *lab.Pair, e *onload.Engine) {
	for range testlong.Pick(1, 30) {
		u, err := e.ListenPacket("udp", net.JoinHostPort(p.A.Addr4.String(), "0"))
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		c, err := p.B.Dial("udp", u.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		const all = 150 // what a socket's buffer holds
		var sent atomic.Int32
		go func() {
			for i := range all {
				_, _ = c.Write([]byte{byte(i)})
				sent.Add(1)
			}
		}()
		for sent.Load() < all/3 {
			time.Sleep(10 * time.Microsecond)
		}
		passed(t, u.(*onload.UDPConn))
		times := make([]int, all)
		b := make([]byte, 1)
		_ = u.SetReadDeadline(time.Now().Add(hang))
		for range all {
			if _, _, err := u.ReadFrom(b); err != nil {
				t.Fatalf("%v; read: %v", err, times)
			}
			times[b[0]]++
		}
		for i, n := range times {
			if n != 1 {
				t.Errorf("datagram %d was read %d times", i, n)
			}
		}
	}
}

// TestPassedRestart: a server passes its listener to a successor that waits for the
// interface, closes it, serves the clients that it has to the end, and ends. No client
// fails meanwhile, nor when the successor has the interface.
func TestPassedRestart(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	old := vethEngine(t, p.A, onload.Config{})
	ln, err := old.Listen("tcp", ":8000")
	if err != nil {
		t.Fatal(err)
	}
	served := serveClients(ln)
	clients := newAskers(p.B, net.JoinHostPort(p.A.Addr4.String(), "8000"), net.JoinHostPort(p.A.Addr6.String(), "8000"))
	for range testlong.Pick(1, 50) {
		clients.more(t)
		next := vethEngine(t, p.A, onload.Config{Fallback: true})
		f := passed(t, ln.(interface{ File() (*os.File, error) }))
		nextLn, err := next.FileListener(f)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		if path := onload.PathOf(nextLn); path.Accelerated {
			t.Errorf("while another has the interface: %v", path)
		}
		nextServed := serveClients(nextLn)
		clients.more(t)
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
		served.Wait()
		if err := old.Close(); err != nil {
			t.Error(err)
		}
		for end := time.Now().Add(hang); !onload.PathOf(nextLn).Accelerated; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal(onload.PathOf(nextLn))
			}
		}
		clients.more(t)
		old, ln, served = next, nextLn, nextServed
	}
	clients.end()
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
	served.Wait()
}

// serveClients echoes what the clients of ln send. It is done when ln is closed and all clients
// have left.
func serveClients(ln net.Listener) *sync.WaitGroup {
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			})
		}
	})
	return &all
}

// askers are clients that connect, ask once and wait for the answer, all the time.
type askers struct {
	asked  atomic.Int64
	failed chan error
	stop   context.CancelFunc
	all    sync.WaitGroup
}

func newAskers(from *lab.NS, at ...string) *askers {
	ctx, stop := context.WithCancel(context.Background())
	a := &askers{failed: make(chan error, 1), stop: stop}
	for i := range 4 {
		at := at[i%len(at)]
		a.all.Go(func() {
			for ctx.Err() == nil {
				if err := ask(from, at); err != nil {
					select {
					case a.failed <- err:
					default:
					}
					return
				}
				a.asked.Add(1)
			}
		})
	}
	return a
}

func ask(from *lab.NS, at string) error {
	c, err := from.Dial("tcp", at)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(hang))
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, 1))
	_ = c.(*net.TCPConn).SetLinger(0) // thousands in TIME-WAIT would take the ports
	return err
}

// more waits until some more clients have been served.
func (a *askers) more(t *testing.T) {
	t.Helper()
	end := time.Now().Add(hang)
	for want := a.asked.Load() + 40; a.asked.Load() < want; time.Sleep(time.Millisecond) {
		select {
		case err := <-a.failed:
			t.Fatalf("after %d clients: %v", a.asked.Load(), err)
		default:
		}
		if time.Now().After(end) {
			t.Fatal("no client is served")
		}
	}
}

func (a *askers) end() {
	a.stop()
	a.all.Wait()
}
