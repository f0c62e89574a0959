package onload_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/testlong"
	onload "github.com/onload-go/onload/net"
)

// TestDeadNeighbours: while many neighbours are dialed that are not there, the one that
// is there is reached each time, although its entry is deleted again and again. With
// -long they are more than the kernel's table has room for (gc_thresh3: 1,024), which is
// the whole machine's.
func TestDeadNeighbours(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	dead := netip.MustParseAddr("10.99.0.1")
	if err := p.A.AddAddr(netip.PrefixFrom(dead, 16)); err != nil {
		t.Fatal(err)
	}
	e := vethEngine(t, p.A, onload.Config{})
	ln, err := p.B.Listen("tcp", netip.AddrPortFrom(p.B.Addr4, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go echoClients(ln)

	dial := func(address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(context.Background(), hang)
		defer cancel()
		return (&onload.Dialer{Engine: e}).DialContext(ctx, "tcp", address)
	}
	var all sync.WaitGroup
	for range testlong.Pick(100, 3000) {
		dead = dead.Next()
		at := netip.AddrPortFrom(dead, 80).String()
		all.Go(func() {
			if c, err := dial(at); err == nil {
				c.Close()
				t.Errorf("%s is there", at)
			} else if !errors.Is(err, syscall.EHOSTUNREACH) {
				t.Error(err)
			}
		})
	}
	done := make(chan struct{})
	go func() {
		all.Wait()
		close(done)
	}()
	reached := 0
	for running := true; running; {
		select {
		case <-done:
			running = false
		case <-time.After(time.Millisecond):
		}
		err := p.A.DelNeighbor(p.B.Addr4)
		if err != nil && !errors.Is(err, syscall.ENOENT) {
			t.Fatal(err)
		}
		c, err := dial(ln.Addr().String())
		if err != nil {
			t.Fatalf("after %d times: %v", reached, err)
		}
		if path := onload.PathOf(c); !path.Accelerated {
			t.Fatal(path.Reason)
		}
		sayAndHear(t, c)
		c.Close()
		reached++
	}
	t.Logf("the neighbour was reached %d times", reached)
}
