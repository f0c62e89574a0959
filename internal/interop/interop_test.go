package interop

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/testlong"
	onload "github.com/onload-go/onload/net"
)

// host makes connections from one namespace: an engine or the kernel.
type host interface {
	Dial(network, address string) (net.Conn, error)
	Listen(network, address string) (net.Listener, error)
}

// engine makes an engine on ns's interface.
func engine(t testing.TB, ns *lab.NS, more ...func(*onload.Config)) *onload.Engine {
	t.Helper()
	c := onload.Config{Interfaces: []string{ns.If}, NetNS: ns.Path}
	for _, f := range more {
		f(&c)
	}
	if *overBroker {
		byBroker(t, ns, &c)
	}
	e, err := onload.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// family is an address family under test.
type family struct {
	name string
	addr func(*lab.NS) netip.Addr
}

var families = []family{
	{"v4", func(ns *lab.NS) netip.Addr { return ns.Addr4 }},
	{"v6", func(ns *lab.NS) netip.Addr { return ns.Addr6 }},
}

// pairing is who talks to whom.
type pairing struct {
	name                 string
	onloadDial, onloadLs bool
}

var pairings = []pairing{
	{"onload-to-kernel", true, false},
	{"kernel-to-onload", false, true},
	{"onload-to-onload", true, true},
}

// ends makes the two hosts of a pairing on a fresh veth pair.
func ends(t testing.TB, p pairing, o lab.Options) (pair *lab.Pair, dial, listen host) {
	t.Helper()
	pair = lab.NewPair(t, o)
	dial, listen = pair.A, pair.B
	if p.onloadDial {
		dial = engine(t, pair.A)
	}
	if p.onloadLs {
		listen = engine(t, pair.B)
	}
	calm(t, dial, listen)
	return pair, dial, listen
}

// each runs fn for every pairing and family.
func each(t *testing.T, o lab.Options, fn func(t *testing.T, dial, listen host, addr netip.Addr)) {
	lab.NeedRoot(t)
	for _, p := range pairings {
		t.Run(p.name, func(t *testing.T) {
			pair, d, l := ends(t, p, o)
			for _, f := range families {
				t.Run(f.name, func(t *testing.T) { fn(t, d, l, f.addr(pair.B)) })
			}
		})
	}
}

func listenOn(t testing.TB, h host, addr netip.Addr) net.Listener {
	t.Helper()
	l, err := h.Listen("tcp", netip.AddrPortFrom(addr, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

type halfCloser interface{ CloseWrite() error }

// stream sends size pseudo-random bytes on c, then FIN; it returns their hash.
func stream(c net.Conn, size int64, seed byte) ([]byte, error) {
	h := sha256.New()
	src := io.LimitReader(rand.NewChaCha8([32]byte{seed}), size)
	if n, err := io.Copy(c, io.TeeReader(src, h)); err != nil {
		return nil, fmt.Errorf("sent %d of %d bytes: %w", n, size, err)
	}
	return h.Sum(nil), c.(halfCloser).CloseWrite()
}

// drain reads c to its end and returns the hash.
func drain(c net.Conn, size int64) ([]byte, error) {
	h := sha256.New()
	n, err := io.Copy(h, c)
	if err == nil && n != size {
		err = fmt.Errorf("the stream ended")
	}
	if err != nil {
		return nil, fmt.Errorf("received %d of %d bytes: %w", n, size, err)
	}
	return h.Sum(nil), nil
}

// duplex transfers size bytes each way at once between c and s.
func duplex(t *testing.T, c, s net.Conn, size int64) {
	t.Helper()
	var sums [4][]byte
	var errs [4]error
	var wg sync.WaitGroup
	wg.Go(func() { sums[0], errs[0] = stream(c, size, 1) })
	wg.Go(func() { sums[1], errs[1] = drain(s, size) })
	wg.Go(func() { sums[2], errs[2] = stream(s, size, 2) })
	wg.Go(func() { sums[3], errs[3] = drain(c, size) })
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	if !bytes.Equal(sums[0], sums[1]) || !bytes.Equal(sums[2], sums[3]) {
		t.Error("received something else than was sent")
	}
}

// TestDuplex: many bytes in both directions at once, equal hashes.
func TestDuplex(t *testing.T) {
	size := testlong.Pick[int64](32<<20, 1<<30)
	for _, mtu := range []int{1500, 9000} {
		t.Run(fmt.Sprint(mtu), func(t *testing.T) {
			each(t, lab.Options{MTU: mtu}, func(t *testing.T, d, ls host, addr netip.Addr) {
				l := listenOn(t, ls, addr)
				accepted := make(chan net.Conn, 1)
				go func() {
					c, err := l.Accept()
					if err != nil {
						t.Error(err)
					}
					accepted <- c
				}()
				c, err := d.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				s := <-accepted
				if s == nil {
					return
				}
				start := time.Now()
				duplex(t, c, s, size)
				t.Logf("%.2f Gbit/s each way", float64(size)*8/time.Since(start).Seconds()/1e9)
				c.Close()
				s.Close()
			})
		})
	}
}

// echoAll serves l until it is closed.
func echoAll(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			io.Copy(c, c)
			c.Close()
		}()
	}
}

// TestManyConns: many connections at the same time, each echoing.
func TestManyConns(t *testing.T) {
	conns, size := testlong.Pick(200, 1000), testlong.Pick[int64](64<<10, 1<<20)
	each(t, lab.Options{}, func(t *testing.T, d, ls host, addr netip.Addr) {
		l := listenOn(t, ls, addr)
		go echoAll(l)
		trip(t, d, l.Addr().String()) // the neighbours are known from here on
		var all sync.WaitGroup
		open := make(chan struct{})
		var opened sync.WaitGroup
		opened.Add(conns)
		for i := range conns {
			all.Go(func() {
				c, err := d.Dial("tcp", l.Addr().String())
				opened.Done()
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				<-open // until all are connected
				var sent []byte
				var serr error
				var wg sync.WaitGroup
				wg.Go(func() { sent, serr = stream(c, size, byte(i)) })
				got, err := drain(c, size)
				wg.Wait()
				if err != nil || serr != nil {
					t.Error(serr, err)
				} else if !bytes.Equal(sent, got) {
					t.Error("received something else than was sent")
				}
			})
		}
		opened.Wait()
		close(open)
		all.Wait()
	})
}

// settled waits until check holds, and fails with its complaint otherwise.
func settled(t testing.TB, limit time.Duration, check func() error) {
	t.Helper()
	end := time.Now().Add(limit)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
