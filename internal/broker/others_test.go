package broker_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/broker/wire"
	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/testlong"
)

// TestOthersMeanwhile measures the round trips of one client while another one floods the
// broker with questions and lies, or the link with datagrams, and while it does not, in turn.
// The ratios are for people: they depend on how many processors there are.
func TestOthersMeanwhile(t *testing.T) {
	if !testlong.Enabled() {
		t.Skip("it measures for some seconds: -long")
	}
	w := newNetwork(t, lab.Options{}, everybody)
	good, bad := w.start("nobody"), w.start("nobody")
	good.line()
	bad.line()
	at, sink := w.at(7000)[0], w.at(7001)[0]
	good.want("broker "+at.String(), "listen tcp %v", at)
	bad.want("broker "+sink.String(), "listen udp %v", sink)
	c, err := w.B.Dial("tcp", at.String())
	must(t, err)
	defer c.Close()
	for name, harm := range map[string]func(){
		"lies":      func() { w.lie(t) },
		"datagrams": func() { _ = w.floodEcho(sink.String()) },
	} {
		t.Run(name, func(t *testing.T) {
			var quiet, meanwhile []time.Duration
			for range 20 {
				quiet = append(quiet, roundTrips(t, c)...)
				ctx, stop := context.WithCancel(context.Background())
				done := make(chan struct{})
				go func() {
					defer close(done)
					for ctx.Err() == nil {
						harm()
					}
				}()
				meanwhile = append(meanwhile, roundTrips(t, c)...)
				stop()
				<-done
			}
			p99 := func(l []time.Duration) time.Duration {
				slices.Sort(l)
				return l[len(l)*99/100]
			}
			a, b := p99(quiet), p99(meanwhile)
			t.Logf("p99 %v, meanwhile %v: %.2f times; medians %v, %v", a, b, float64(b)/float64(a), quiet[len(quiet)/2], meanwhile[len(meanwhile)/2])
		})
	}
}

// roundTrips measures for a tenth of a second.
func roundTrips(t *testing.T, c net.Conn) (l []time.Duration) {
	t.Helper()
	for end := time.Now().Add(100 * time.Millisecond); time.Now().Before(end); {
		begun := time.Now()
		must(t, echoOver(c, 1))
		l = append(l, time.Since(begun))
	}
	return l
}

// lie is one client that asks for what it may not have, and breaks the protocol then.
func (w *network) lie(t testing.TB) {
	c, err := wire.Dial(w.socket())
	if err != nil {
		return // the queue is full
	}
	defer c.Close()
	must(t, c.SetDeadline(time.Now().Add(patience)))
	_ = c.Send(1, &wire.Hello{Version: wire.Version})
	for range 20 {
		_ = c.Send(2, &wire.Stats{Link: 1})
		_, _, fds, _ := c.Receive()
		wire.CloseAll(fds)
	}
	_ = c.Do(func(fd int) error { return unix.Sendto(fd, []byte("garbage"), unix.MSG_DONTWAIT, nil) })
}

// floodEcho sends datagrams to an echo server, a thousand at a time.
func (w *network) floodEcho(to string) error {
	c, err := w.B.Dial("udp", to)
	if err != nil {
		return err
	}
	defer c.Close()
	for range 1000 {
		if _, err := fmt.Fprint(c, "flood"); err != nil {
			return err
		}
	}
	return nil
}
