package engine_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// queuesPair is a pair of links with four queues each, of which few are in use,
// and an engine on one end.
func queuesPair(t *testing.T, few int, c onload.Config) (*lab.Pair, *onload.Engine) {
	t.Helper()
	p := lab.NewPair(t, lab.Options{Queues: 4})
	setQueues(t, p, few)
	c.NetNS, c.Interfaces, c.Logger = p.A.Path, []string{p.A.If}, zap.NewNop()
	e, err := onload.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return p, e
}

// setQueues has both ends use n queues. The end with fewer transmit queues than
// the other has receive queues changes last.
func setQueues(t *testing.T, p *lab.Pair, n int) {
	t.Helper()
	for _, l := range []*lab.Link{p.A.Link, p.B.Link} {
		if err := l.SetQueues(n); err != nil {
			t.Fatal(err)
		}
	}
}

// echoes answers each connection of l with its own bytes.
func echoes(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
		}()
	}
}

// talk sends messages over c, whose other end echoes, until stop, and counts them
// in n.
func talk(c net.Conn, stop chan struct{}, n *atomic.Int64) error {
	defer c.Close()
	b := make([]byte, 700)
	for i := 0; ; i++ {
		select {
		case <-stop:
			return nil
		default:
		}
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			return err
		}
		b[0] = byte(i)
		if _, err := c.Write(b); err != nil {
			return fmt.Errorf("%v: message %d: %w", c.LocalAddr(), i, err)
		}
		if _, err := io.ReadFull(c, b); err != nil {
			return fmt.Errorf("%v: echo %d: %w", c.LocalAddr(), i, err)
		}
		n.Add(1)
	}
}

// crowd is connections that talk.
type crowd struct {
	t    *testing.T
	stop chan struct{}
	wg   sync.WaitGroup
	n    []*atomic.Int64 // messages of each
}

func (w *crowd) add(c net.Conn, err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	n := new(atomic.Int64)
	w.n = append(w.n, n)
	w.wg.Go(func() {
		if err := talk(c, w.stop, n); err != nil {
			w.t.Error(err)
		}
	})
}

// progress waits until each connection has had some more echoes.
func (w *crowd) progress() {
	w.t.Helper()
	start := time.Now()
	for i, n := range w.n {
		for want := n.Load() + 3; n.Load() < want; time.Sleep(time.Millisecond) {
			if time.Since(start) > time.Minute || w.t.Failed() {
				w.t.Fatalf("connection %d of %d has had %d echoes, and no more", i, len(w.n), n.Load())
			}
		}
	}
}

func (w *crowd) end() {
	close(w.stop)
	w.wg.Wait()
}

// TestQueuesCome: queues that ethtool adds while an engine runs are its own at
// once. Connections of both directions go on, and new ones come, accelerated
// (field case 21). The kernel refuses to take queues away that an engine has.
func TestQueuesCome(t *testing.T) {
	for _, tt := range []struct {
		from, to int
		c        onload.Config
	}{
		{1, 4, onload.Config{}},
		{1, 2, onload.Config{Profile: onload.Throughput}},
		{2, 3, onload.Config{Profile: onload.Latency}},
		{2, 4, onload.Config{Stacks: 2}},
		{4, 1, onload.Config{}},
		{4, 1, onload.Config{Mode: onload.ModeNative}},
	} {
		t.Run(fmt.Sprintf("%d to %d/%v/%v", tt.from, tt.to, tt.c.Mode, tt.c.Profile), func(t *testing.T) {
			tt.c.Frames, tt.c.RingSize = 8192, 512
			p, e := queuesPair(t, tt.from, tt.c)
			l, err := e.Listen("tcp", ":0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go echoes(l)
			k, err := p.B.Listen("tcp", netip.AddrPortFrom(p.B.Addr4, 0).String())
			if err != nil {
				t.Fatal(err)
			}
			defer k.Close()
			go echoes(k)
			at := netip.AddrPortFrom(p.A.Addr4, uint16(l.Addr().(*net.TCPAddr).Port)).String()
			w := &crowd{t: t, stop: make(chan struct{})}
			come := func() {
				for range 12 {
					c, err := e.Dial("tcp", k.Addr().String())
					w.add(c, err)
					if path := onload.PathOf(c); !path.Accelerated {
						t.Errorf("path: %v", path)
					}
					w.add(p.B.Dial("tcp", at))
				}
			}
			come()
			w.progress()
			if tt.to > tt.from {
				setQueues(t, p, tt.to)
			} else if err := p.A.SetQueues(tt.to); !errors.Is(err, syscall.EINVAL) {
				t.Errorf("fewer queues than an engine has: %v, want EINVAL", err)
			}
			come()
			w.progress()
			w.end()
			if st := e.Status()[0]; st.Queues != max(tt.from, tt.to) || len(st.Warnings) != 0 && tt.c.Profile != onload.Latency {
				t.Errorf("the engine has %d queues, want %d; warnings %q", st.Queues, max(tt.from, tt.to), st.Warnings)
			}
		})
	}
}

// TestQueuesLeft: where queues that come cannot be taken, Status says so, and what
// is dialed from then on is the kernel's, as its answers may come by them.
func TestQueuesLeft(t *testing.T) {
	for name, c := range map[string]onload.Config{
		"named":       {Queues: []int{0}},
		"native veth": {Mode: onload.ModeNative},
	} {
		t.Run(name, func(t *testing.T) {
			c.Frames, c.RingSize = 1024, 256
			p, e := queuesPair(t, 1, c)
			k, err := p.B.Listen("tcp", netip.AddrPortFrom(p.B.Addr4, 0).String())
			if err != nil {
				t.Fatal(err)
			}
			defer k.Close()
			go echoes(k)
			setQueues(t, p, 4)
			for start := time.Now(); len(e.Status()[0].Warnings) == 0; time.Sleep(time.Millisecond) {
				if time.Since(start) > time.Minute {
					t.Fatal("nothing is said")
				}
			}
			w := &crowd{t: t, stop: make(chan struct{})}
			for range 16 {
				c, err := e.Dial("tcp", k.Addr().String())
				w.add(c, err)
				if path := onload.PathOf(c); path.Accelerated || path.Reason != e.Status()[0].Warnings[0] {
					t.Errorf("path: %v", path)
				}
			}
			w.progress()
			w.end()
		})
	}
}
