package onload_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/testlong"
	onload "github.com/onload-go/onload/net"
)

// shared has a socket share its port with others of the user.
func shared(_, _ string, c syscall.RawConn) (err error) {
	if e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) }); e != nil {
		return e
	}
	return err
}

// TestRollingRestart: a server closes its sockets, then its engine, while a successor
// has sockets of the kernel at the same ports (SO_REUSEPORT), and clients come all the
// time. None is refused, whether the old server still has connections or not; between
// sockets of the kernel none is either.
func TestRollingRestart(t *testing.T) {
	for _, tt := range []struct {
		name           string
		queues, stacks int
		held           bool // a connection of the old server stays
	}{
		{"idle", 1, 1, false},
		{"connections", 1, 1, true},
		{"stacks", 2, 2, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := lab.NewPair(t, lab.Options{Queues: tt.queues})
			for i := range testlong.Pick(1, 50) {
				for _, host := range []string{p.A.Addr4.String(), p.A.Addr6.String()} {
					restart(t, p, onload.Config{Stacks: tt.stacks}, net.JoinHostPort(host, fmt.Sprint(8000+i)), tt.held)
				}
			}
		})
	}
}

// restart is one round of TestRollingRestart.
func restart(t *testing.T, p *lab.Pair, c onload.Config, at string, held bool) {
	t.Helper()
	e := vethEngine(t, p.A, c)
	lc := onload.ListenConfig{Engine: e, Control: shared}
	ln, err := lc.Listen(context.Background(), "tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	pc, err := lc.ListenPacket(context.Background(), "udp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	for _, x := range []any{ln, pc} {
		if path := onload.PathOf(x); !path.Accelerated {
			t.Fatal(path.Reason)
		}
	}
	go echoClients(ln)
	go answer(pc)
	var old net.Conn
	if held {
		if old, err = p.B.Dial("tcp", at); err != nil {
			t.Fatal(err)
		}
		defer old.Close()
		sayAndHear(t, old)
	}

	var next net.Listener
	var nextPC net.PacketConn
	if err := p.A.Do(func() (err error) {
		lc := net.ListenConfig{Control: shared}
		if next, err = lc.Listen(context.Background(), "tcp", at); err == nil {
			nextPC, err = lc.ListenPacket(context.Background(), "udp", at)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	defer nextPC.Close()
	go echoClients(next)
	go answer(nextPC)

	clients := newClients(p.B, at)
	defer clients.end()
	clients.more(t)
	if err := errors.Join(ln.Close(), pc.Close()); err != nil {
		t.Error(err)
	}
	clients.more(t)
	if held {
		sayAndHear(t, old)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	clients.more(t)

}

// echoClients echoes what clients send.
func echoClients(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(c, c)
		}()
	}
}

// answer sends datagrams back.
func answer(pc net.PacketConn) {
	b := make([]byte, 64)
	for {
		n, from, err := pc.ReadFrom(b)
		if err != nil {
			return
		}
		_, _ = pc.WriteTo(b[:n], from)
	}
}

func sayAndHear(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(hang))
	if _, err := c.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Error(err)
	}
}

// clients dial all the time, and send datagrams.
type clients struct {
	from   *lab.NS
	at     string
	dialed [2]atomic.Int64 // by TCP, by UDP
	failed chan error
	done   chan struct{}
	all    sync.WaitGroup
}

func newClients(from *lab.NS, at string) *clients {
	c := &clients{from: from, at: at, failed: make(chan error, 1), done: make(chan struct{})}
	for range 2 {
		c.all.Go(func() { c.repeat(0, c.dial) })
	}
	c.all.Go(func() { c.repeat(1, c.ask) })
	return c
}

func (c *clients) repeat(of int, once func() error) {
	for {
		select {
		case <-c.done:
			return
		default:
		}
		// A kernel that closes a listener resets the connections that nobody has
		// accepted, some before the client's connect(2) returns.
		if err := once(); err != nil && !errors.Is(err, syscall.ECONNRESET) {
			select {
			case c.failed <- err:
			default:
			}
			return
		}
		c.dialed[of].Add(1)
	}
}

func (c *clients) dial() error {
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	conn, err := c.from.DialContext(ctx, "tcp", c.at)
	if err != nil {
		return err
	}
	_ = conn.(*net.TCPConn).SetLinger(0) // thousands in TIME-WAIT would take the ports
	return conn.Close()
}

// ask sends a datagram, which the closing of a socket may lose, but not have refused.
func (c *clients) ask() error {
	conn, err := c.from.Dial("udp", c.at)
	if err != nil {
		return err
	}
	defer conn.Close()
	for range 2 { // an answer to the first may be an error of the second
		if _, err := conn.Write([]byte("x")); err != nil {
			return err
		}
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := conn.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	return nil
}

// more waits until some more clients have been served.
func (c *clients) more(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(hang)
	for of := range c.dialed {
		for want := c.dialed[of].Load() + 20; c.dialed[of].Load() < want; time.Sleep(time.Millisecond) {
			select {
			case err := <-c.failed:
				t.Fatal(err)
			default:
			}
			if time.Now().After(deadline) {
				t.Fatal("no client is served")
			}
		}
	}
}

func (c *clients) end() {
	close(c.done)
	c.all.Wait()
}
