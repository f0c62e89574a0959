package engine_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// bulk sends n random bytes over c, whose other end echoes them, and compares the
// hashes. It calls change at each twelfth of what comes back.
func bulk(c net.Conn, n int, change func()) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	seed := [32]byte{byte(n), byte(n >> 8)}
	sum := sha256.New()
	wrote := make(chan error, 1)
	go func() {
		_, err := io.CopyN(struct{ io.Writer }{io.MultiWriter(c, sum)}, rand.NewChaCha8(seed), int64(n))
		wrote <- err
	}()
	back := sha256.New()
	for got := 0; got < n; {
		k := min(n/12, n-got)
		if _, err := io.CopyN(back, struct{ io.Reader }{c}, int64(k)); err != nil {
			return fmt.Errorf("after %d bytes: %w", got, err)
		}
		got += k
		change()
	}
	if err := <-wrote; err != nil {
		return err
	}
	if !bytes.Equal(sum.Sum(nil), back.Sum(nil)) {
		return errors.New("other bytes came back")
	}
	return nil
}

// TestOffloadsMove: the route of a connection moves between a link that segments
// packets and one that does not, while bulk data flows. Over the first it leaves in
// large packets, each time.
func TestOffloadsMove(t *testing.T) {
	for _, first := range []int{0, 1} {
		t.Run(fmt.Sprintf("first=%d", first), func(t *testing.T) {
			u := makeUnequalUplinks(t, [2]lab.Options{{Queues: 1}, {Queues: 2}}, onload.Config{Frames: 4096, RingSize: 512})
			move := func(i int) {
				u.ip(t, u.A, fmt.Sprintf("route replace 10.99.0.0/16 via %s dev %s", u.r[i].Addr4, u.a[i].If))
			}
			move(first)
			u.await(t, far(false, 1))
			c, err := u.engine.Dial("tcp", netip.AddrPortFrom(far(false, 1), 7).String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			tso := func(at int) {
				t.Helper()
				for start := time.Now(); ; time.Sleep(time.Millisecond) { // until the engine has heard of the route
					p := onload.PathOf(c)
					if p.Accelerated && p.Interface == u.a[at].If {
						if large := p.TSO > 0; large != (at == 0) {
							t.Errorf("%v", p)
						}
						return
					}
					if time.Since(start) > patience {
						t.Fatalf("%v, want %s", p, u.a[at].If)
					}
				}
			}
			at := first
			tso(at)
			if err := bulk(c, 12<<20, func() {
				at = 1 - at
				move(at)
				tso(at)
			}); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestQueuesComeToBulk: queues come to a link that segments packets while bulk data
// flows. The connections go on, in packets of the MTU.
func TestQueuesComeToBulk(t *testing.T) {
	p, e := queuesPair(t, 1, onload.Config{Frames: 8192, RingSize: 512})
	k, err := p.B.Listen("tcp", netip.AddrPortFrom(p.B.Addr4, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	go echoes(k)
	var conns []net.Conn
	for range 6 {
		c, err := e.Dial("tcp", k.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	if path := onload.PathOf(conns[0]); path.TSO == 0 {
		t.Fatalf("%v", path)
	}
	done := make(chan error, len(conns))
	once := make(chan struct{}, 1)
	come := make(chan struct{})
	once <- struct{}{}
	for _, c := range conns {
		go func() {
			done <- bulk(c, 6<<20, func() {
				select {
				case <-once:
					close(come)
				default:
				}
			})
		}()
	}
	<-come
	setQueues(t, p, 4)
	for range conns {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if path := onload.PathOf(conns[0]); !path.Accelerated || path.TSO > 0 {
		t.Errorf("%v", path)
	}
}
