package onloadhttp_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/testlong"
	onload "github.com/onload-go/onload/net"
	"github.com/onload-go/onload/net/onloadhttp"
)

// hang bounds what would hang; no verdict depends on it.
const hang = time.Minute

// generation is a server, which says its number.
type generation struct {
	l      *onloadhttp.Listener
	server *http.Server
	ended  chan error
}

func serve(l *onloadhttp.Listener, number int) *generation {
	g := &generation{l: l, ended: make(chan error, 1)}
	g.server = &http.Server{ConnState: l.ConnState, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%d %s", number, body)
	})}
	go func() { g.ended <- g.server.Serve(l) }()
	return g
}

func (g *generation) shutdown(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	_ = g.server.Shutdown(ctx) // the listener may be closed
	if err := <-g.ended; err != http.ErrServerClosed {
		t.Errorf("Serve: %v", err)
	}
}

// TestRestart: clients with keep-alive connections ask all the time, while the server is
// replaced again and again. No request fails, and no client needs a second connection.
func TestRestart(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e, err := onload.New(onload.Config{NetNS: p.A.Path})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	ln, err := e.Listen("tcp", net.JoinHostPort(p.A.Addr4.String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := onloadhttp.NewListener(ln)
	if err != nil {
		t.Fatal(err)
	}
	now := serve(l, 0)
	all := startClients(t, p.B, ln.Addr().String())
	for i := range testlong.Pick(3, 50) {
		all.more(t)
		from, to := lab.UnixPair(t)
		handed := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), hang)
			defer cancel()
			handed <- now.l.Handoff(ctx, from)
			from.Close()
		}()
		l, err := onloadhttp.TakeoverBy(e, to)
		if err != nil {
			t.Fatal(err)
		}
		next := serve(l, i+1)
		if err := <-handed; err != nil {
			t.Error(err)
		}
		now.shutdown(t)
		now = next
		all.more(t)
		if got := all.generation.Load(); got != int64(i+1) {
			t.Errorf("generation %d answers", got)
		}
	}
	all.end()
	now.shutdown(t)
}

const clients = 4

// asking are clients that ask all the time, each by the one connection that it has.
type asking struct {
	asked, generation atomic.Int64
	failed            chan error
	stop              context.CancelFunc
	all               sync.WaitGroup
}

func startClients(t *testing.T, from *lab.NS, at string) *asking {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	a := &asking{failed: make(chan error, clients), stop: stop}
	for range clients {
		c, err := from.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		a.all.Go(func() {
			defer c.Close()
			answers := bufio.NewReader(c)
			for n := 0; ctx.Err() == nil; n++ {
				if err := a.ask(c, answers, n); err != nil {
					a.failed <- fmt.Errorf("request %d: %w", n, err)
					return
				}
				a.asked.Add(1)
			}
		})
	}
	return a
}

func (a *asking) ask(c net.Conn, answers *bufio.Reader, n int) error {
	if err := c.SetDeadline(time.Now().Add(hang)); err != nil {
		return err
	}
	body := fmt.Appendf(nil, "%d%s", n, bytes.Repeat([]byte("x"), n%5000))
	r, err := http.NewRequest("POST", "http://server/", bytes.NewReader(body))
	if err != nil {
		return err
	}
	if err := r.Write(c); err != nil {
		return err
	}
	answer, err := http.ReadResponse(answers, r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	got, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	var generation int64
	var said string
	if _, err := fmt.Sscanf(string(got), "%d %s", &generation, &said); err != nil || said != string(body) {
		return fmt.Errorf("the answer is %.40q", got)
	}
	for was := a.generation.Load(); was < generation && !a.generation.CompareAndSwap(was, generation); {
		was = a.generation.Load()
	}
	return nil
}

// more waits until some more requests were answered.
func (a *asking) more(t *testing.T) {
	t.Helper()
	end := time.Now().Add(hang)
	for want := a.asked.Load() + 10*clients; a.asked.Load() < want; time.Sleep(time.Millisecond) {
		select {
		case err := <-a.failed:
			t.Fatal(err)
		default:
		}
		if time.Now().After(end) {
			t.Fatal("no request is answered")
		}
	}
}

func (a *asking) end() {
	a.stop()
	a.all.Wait()
}

// lostFirst is a listener whose first connection its client resets before it is passed.
type lostFirst struct {
	*net.TCPListener
	n atomic.Int32
}

func (l *lostFirst) Accept() (net.Conn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	if l.n.Add(1) == 1 {
		return lostConn{c}, nil
	}
	return c, nil
}

type lostConn struct{ *net.TCPConn }

func (lostConn) File() (*os.File, error) {
	return nil, &net.OpError{Op: "file", Net: "tcp", Err: syscall.ENOTCONN}
}

// TestHandoffLost: a connection that ends while it waits to be passed holds up no other.
func TestHandoffLost(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e, err := onload.New(onload.Config{NetNS: p.A.Path})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	ln, err := p.A.Listen("tcp", net.JoinHostPort(p.A.Addr4.String(), "0"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := onloadhttp.NewListener(&lostFirst{TCPListener: ln.(*net.TCPListener)})
	if err != nil {
		t.Fatal(err)
	}
	now := serve(l, 0)
	var a asking
	var conns [3]net.Conn
	var answers [3]*bufio.Reader
	for i := range conns {
		if conns[i], err = p.B.Dial("tcp", ln.Addr().String()); err != nil {
			t.Fatal(err)
		}
		defer conns[i].Close()
		answers[i] = bufio.NewReader(conns[i])
		if err := a.ask(conns[i], answers[i], i); err != nil {
			t.Fatal(err)
		}
	}
	from, to := lab.UnixPair(t)
	handed := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), hang)
		defer cancel()
		handed <- now.l.Handoff(ctx, from)
		from.Close()
	}()
	l, err = onloadhttp.TakeoverBy(e, to)
	if err != nil {
		t.Fatal(err)
	}
	next := serve(l, 1)
	if err := <-handed; err != nil {
		t.Error(err)
	}
	for i := range conns {
		err := a.ask(conns[i], answers[i], i)
		if lost := i == 0; lost == (err == nil) {
			t.Errorf("connection %d: %v", i, err)
		}
	}
	if got := a.generation.Load(); got != 1 {
		t.Errorf("generation %d answers", got)
	}
	now.shutdown(t)
	next.shutdown(t)
}
