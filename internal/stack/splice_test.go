package stack

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/internal/allocs"
	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/testlong"
)

// splice moves all that from receives to to, and its end.
func splice(to, from *TCPConn) (int64, error) {
	n, _, fromErr, err := to.SpliceFrom(from, 1<<62)
	if fromErr == io.EOF {
		fromErr = nil
	}
	if err = errors.Join(fromErr, err); err != nil {
		return n, err
	}
	return n, to.CloseWrite()
}

// through sends size bytes into in, and checks what comes out of out.
func through(in, out io.ReadWriter, size int, seed byte) error {
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{seed}).Read(data)
	sent := make(chan error, 1)
	go func() {
		_, err := in.Write(data)
		sent <- errors.Join(err, in.(halfCloser).CloseWrite())
	}()
	h := sha256.New()
	n, err := io.Copy(h, out)
	if want := sha256.Sum256(data); err != nil || !bytes.Equal(h.Sum(nil), want[:]) {
		return fmt.Errorf("received %d of %d: %v", n, size, err)
	}
	return <-sent
}

// TestSpliceFaultyLink: a proxy's stream is intact whatever the link does to
// its packets, and leaves no frame behind.
func TestSpliceFaultyLink(t *testing.T) {
	// Without corruption: of several flipped bits TCP's checksum misses one in a
	// hundred.
	faults := sim.Faults{
		Loss: 0.03, Reorder: 0.05, Duplicate: 0.05,
		Delay: 200 * time.Microsecond, ReorderDelay: 500 * time.Microsecond,
	}
	nics := []sim.Config{
		{},
		{TSO: 65535, TSOFrags: 48, LargeRx: true},                  // frames are longer than segments
		{RxHeadroom: 100, TxCsum: true},                            // headers have no room
		{MTU: 9000, FrameSize: 4096},                               // packets of several frames
		{TSO: 65535, TSOFrags: 48, LargeRx: true, FrameSize: 4096}, // two segments a frame
	}
	slots := make(chan struct{}, 10)
	var wg sync.WaitGroup
	for seed := range testlong.Pick(60, 600) {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			o := pairOptions{profile: Throughput, nic: nics[seed%len(nics)],
				link: sim.LinkConfig{AtoB: faults, BtoA: faults, Seed: uint64(seed)}}
			o.nic.TxRing, o.nic.RxRing = 256, 256
			if err := faultySplice(t, o, 200<<10, byte(seed)); err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
		})
	}
	wg.Wait()
}

// faultySplice sends size bytes from a by b back to a.
func faultySplice(t *testing.T, o pairOptions, size int, seed byte) error {
	a, b, err := makePair(o)
	if err != nil {
		return err
	}
	defer a.Close()
	defer b.Close()
	free := b.Stats().FreeFrames
	in, from, err := makeConn(t.Context(), a, b, addrB)
	if err != nil {
		return err
	}
	out, to, err := makeConn(t.Context(), a, b, addrB)
	if err != nil {
		return err
	}
	conns := []*TCPConn{in, from, out, to}
	for _, c := range conns {
		c.SetDeadline(time.Now().Add(2 * time.Minute))
	}
	done := make(chan error, 1)
	go func() {
		n, err := splice(to, from)
		if n != int64(size) {
			err = errors.Join(err, fmt.Errorf("spliced %d of %d", n, size))
		}
		done <- err
	}()
	err = errors.Join(through(in, out, size, seed), <-done)
	for _, c := range conns {
		c.SetLinger(0)
		c.Close()
	}
	if lost := free - b.Stats().FreeFrames; err == nil && lost > 0 {
		err = fmt.Errorf("%d frames missing", lost)
	}
	return err
}

// TestSpliceStacks: between connections of two stacks bytes are copied once,
// and the frames of each stay its own.
func TestSpliceStacks(t *testing.T) {
	for _, mtu := range []int{1500, 9000} {
		a, b := newPair(t, pairOptions{})
		x, y := newPair(t, pairOptions{nic: sim.Config{MTU: mtu}})
		in, from := connect(t, a, b, addrB)
		to, out := connect(t, x, y, addrB)
		go splice(to, from)
		if err := through(in, out, 3<<20, 1); err != nil {
			t.Errorf("MTU %d: %v", mtu, err)
		}
	}
}

// TestSpliceKernel: kernel peers on both sides of a proxy, in all modes.
func TestSpliceKernel(t *testing.T) {
	kernelPeers(t, func(t *testing.T, p *lab.Pair, s *Stack, local, remote netip.Addr) {
		kl, err := p.B.Listen("tcp", netip.AddrPortFrom(remote, 5000).String())
		if err != nil {
			t.Fatal(err)
		}
		defer kl.Close()
		l, err := s.ListenTCP(netip.AddrPortFrom(local, 0), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		in, err := p.B.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		from, _, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer from.Close()
		to, err := s.DialTCP(t.Context(), netip.AddrPort{}, netip.AddrPortFrom(remote, 5000), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer to.Close()
		out, err := kl.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		var wg sync.WaitGroup
		for i, way := range [][2]*TCPConn{{to, from}, {from, to}} {
			ends := [2]io.ReadWriter{in, out}
			wg.Go(func() {
				if _, err := splice(way[0], way[1]); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() {
				if err := through(ends[i], ends[1-i], 8<<20, byte(i)); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	})
}

// TestSpliceItself: an echo sends the frames that it received.
func TestSpliceItself(t *testing.T) {
	a, b := newPair(t, pairOptions{})
	c, s := connect(t, a, b, addrB)
	go splice(s, s)
	transfer(t, c, 3<<20)
}

// TestSpliceAllocs: a proxy allocates nothing.
func TestSpliceAllocs(t *testing.T) {
	a, b := newPair(t, pairOptions{profile: Latency})
	in, from := connect(t, a, b, addrB)
	out, to := connect(t, a, b, addrB)
	const size = 64 << 10
	p := make([]byte, size)
	trip := func() {
		if _, err := in.Write(p); err != nil {
			t.Fatal(err)
		}
		if n, cut, fromErr, err := to.SpliceFrom(from, size); n != size || cut || fromErr != nil || err != nil {
			t.Fatal(n, cut, fromErr, err)
		}
		if _, err := io.ReadFull(out, p); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		trip()
	}
	if n := allocs.PerRun(200, trip); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestSpliceCut: of a frame that holds more than is wanted nothing is taken.
func TestSpliceCut(t *testing.T) {
	a, b := newPair(t, pairOptions{})
	in, from := connect(t, a, b, addrB)
	to, _ := connect(t, b, a, addrA)
	if _, err := in.Write([]byte("0123456789")); err != nil {
		t.Fatal(err)
	}
	n, cut, fromErr, err := to.SpliceFrom(from, 4)
	if n != 0 || !cut || fromErr != nil || err != nil {
		t.Errorf("%d, %v, %v, %v", n, cut, fromErr, err)
	}
	p := make([]byte, 20)
	if n, err := from.Read(p); string(p[:n]) != "0123456789" {
		t.Errorf("%q, %v", p[:n], err)
	}
}

// TestSpliceWaits: while one side waits the other is free for others, and each
// side's deadline, close and reset end the wait, told apart.
func TestSpliceWaits(t *testing.T) {
	type result struct {
		n            int64
		fromErr, err error
	}
	full := func(t *testing.T) (in, from, to, out *TCPConn, done chan result) {
		a, b := newPair(t, pairOptions{})
		in, from = connect(t, a, b, addrB)
		to, out = connect(t, b, a, addrA)
		done = make(chan result, 1)
		go func() {
			n, _, fromErr, err := to.SpliceFrom(from, 1<<40)
			done <- result{n, fromErr, err}
		}()
		return
	}
	// blocked waits until the destination is full.
	blocked := func(t *testing.T, in, to *TCPConn) {
		in.SetWriteDeadline(time.Now().Add(patience))
		go in.Write(make([]byte, 32<<20))
		for end := time.Now().Add(patience); to.w.state.Load() == waiterIdle || to.tc.Writable(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the destination never blocks")
			}
		}
	}
	get := func(t *testing.T, done chan result) result {
		select {
		case r := <-done:
			return r
		case <-time.After(patience):
			t.Fatal("still waiting")
			panic("unreachable")
		}
	}
	t.Run("write beside a waiting reader", func(t *testing.T) {
		_, _, to, out, done := full(t)
		time.Sleep(5 * time.Millisecond)
		if _, err := to.Write([]byte("mine")); err != nil {
			t.Fatal(err)
		}
		p := make([]byte, 4)
		if _, err := io.ReadFull(out, p); err != nil || string(p) != "mine" {
			t.Errorf("%q, %v", p, err)
		}
		to.Close()
		out.Close()
		select {
		case r := <-done:
			t.Errorf("ended without anything to write: %v", r)
		case <-time.After(5 * time.Millisecond):
		}
	})
	t.Run("read deadline", func(t *testing.T) {
		_, from, _, _, done := full(t)
		from.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
		if r := get(t, done); r.fromErr != os.ErrDeadlineExceeded || r.err != nil {
			t.Error(r)
		}
	})
	t.Run("read side closed", func(t *testing.T) {
		_, from, _, _, done := full(t)
		time.Sleep(5 * time.Millisecond)
		from.Close()
		if r := get(t, done); r.fromErr != errClosed || r.err != nil {
			t.Error(r)
		}
	})
	t.Run("read side shut", func(t *testing.T) {
		_, from, _, _, done := full(t)
		from.CloseRead()
		if r := get(t, done); r.fromErr != io.EOF || r.err != nil {
			t.Error(r)
		}
	})
	t.Run("read side closed while the other is full", func(t *testing.T) {
		in, from, to, out, done := full(t)
		blocked(t, in, to)
		closed := make(chan error, 1)
		go func() { closed <- from.Close() }()
		select {
		case err := <-closed:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Fatal("Close waits for the other connection")
		}
		go io.Copy(io.Discard, out)
		if r := get(t, done); r.fromErr != errClosed || r.err != nil {
			t.Error(r)
		}
	})
	t.Run("write deadline", func(t *testing.T) {
		in, _, to, _, done := full(t)
		blocked(t, in, to)
		to.SetWriteDeadline(time.Now())
		if r := get(t, done); r.n == 0 || r.fromErr != nil || r.err != os.ErrDeadlineExceeded {
			t.Error(r)
		}
	})
	t.Run("write side closed", func(t *testing.T) {
		in, _, to, _, done := full(t)
		blocked(t, in, to)
		to.Close()
		if r := get(t, done); r.n == 0 || r.fromErr != nil || r.err != errClosed {
			t.Error(r)
		}
	})
	t.Run("write side reset", func(t *testing.T) {
		in, _, to, out, done := full(t)
		blocked(t, in, to)
		out.Close() // with data unread
		if r := get(t, done); r.fromErr != nil || r.err == nil || r.err == errClosed {
			t.Error(r)
		}
	})
	t.Run("stack closed", func(t *testing.T) {
		in, _, to, _, done := full(t)
		blocked(t, in, to)
		to.s.Close()
		if r := get(t, done); r.err != errClosed {
			t.Error(r)
		}
	})
}

// TestSpliceMoved: a destination that is handed over while it is full leaves the received
// bytes that it has not taken to be read.
func TestSpliceMoved(t *testing.T) {
	a, b := newPair(t, pairOptions{})
	in, from := connect(t, a, b, addrB)
	to, _ := connect(t, b, a, addrA)
	data := make([]byte, 32<<20)
	rand.NewChaCha8([32]byte{1}).Read(data)
	in.SetWriteDeadline(time.Now().Add(patience))
	from.SetReadDeadline(time.Now().Add(patience))
	go in.Write(data)
	type result struct {
		n            int64
		fromErr, err error
	}
	done := make(chan result, 1)
	go func() {
		n, _, fromErr, err := to.SpliceFrom(from, 1<<40)
		done <- result{n, fromErr, err}
	}()
	for end := time.Now().Add(patience); to.w.state.Load() == waiterIdle || to.tc.Writable(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the destination never blocks")
		}
	}
	if _, err := to.Freeze(); err != nil {
		t.Fatal(err)
	}
	to.Release()
	r := <-done
	if r.fromErr != nil || r.err != errClosed {
		t.Fatal(r.fromErr, r.err)
	}
	rest := make([]byte, 256<<10)
	if _, err := io.ReadFull(from, rest); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(rest, data[r.n:][:len(rest)]) {
		t.Errorf("after %d bytes others follow", r.n)
	}
}
