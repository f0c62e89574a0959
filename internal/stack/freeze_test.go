package stack

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/onload-go/onload/driver/sim"
	"github.com/onload-go/onload/internal/testlong"
	"github.com/onload-go/onload/tcp"
)

// nomad is a connection whose carrier changes: what package net makes of one.
type nomad struct {
	mu sync.RWMutex // held for writing while it moves
	c  *TCPConn
}

func (n *nomad) now() *TCPConn {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.c
}

// on calls f with the carrier, and again with the next where the first was left.
func (n *nomad) on(f func(c *TCPConn) (int, error)) (total int, err error) {
	for {
		c := n.now()
		k, err := f(c)
		total += k
		if !errors.Is(err, errClosed) || n.now() == c {
			return total, err
		}
	}
}

func (n *nomad) Read(p []byte) (int, error) {
	return n.on(func(c *TCPConn) (int, error) { return c.Read(p) })
}

func (n *nomad) Write(p []byte) (int, error) {
	done := 0
	return n.on(func(c *TCPConn) (int, error) {
		k, err := c.Write(p[done:])
		done += k
		return k, err
	})
}

func (n *nomad) CloseWrite() error {
	_, err := n.on(func(c *TCPConn) (int, error) { return 0, c.CloseWrite() })
	return err
}

func (n *nomad) Close() error {
	_, err := n.on(func(c *TCPConn) (int, error) { return 0, c.Close() })
	return err
}

// move freezes the connection, sends it through its binary form, and has to adopt it.
// It reports whether there was something to move.
func (n *nomad) move(t *testing.T, to *Stack) bool {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	snapshot, err := n.c.Freeze()
	if err != nil {
		if !errors.Is(err, tcp.ErrState) && !errors.Is(err, errClosed) {
			t.Error(err)
		}
		return false
	}
	b, err := snapshot.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	packets := n.c.Release()
	var again tcp.Snapshot
	if err := again.UnmarshalBinary(b); err != nil {
		t.Fatal(err)
	}
	c, err := to.Adopt(&again, packets)
	if err != nil {
		t.Fatal(err)
	}
	n.c = c
	return true
}

// bothWays sends size bytes each way between a and b, half closes both, and compares.
// It calls between before, and as long as that goes on.
func bothWays(t *testing.T, a, b halfCloser, size int, between func()) {
	t.Helper()
	send := func(to io.Writer, seed byte) (sum [32]byte) {
		data := make([]byte, size)
		rand.NewChaCha8([32]byte{seed}).Read(data)
		if n, err := to.Write(data); n != size || err != nil {
			t.Errorf("wrote %d of %d: %v", n, size, err)
		}
		return sha256.Sum256(data)
	}
	between()
	var sent, got [2][32]byte
	var wg sync.WaitGroup
	for i, ends := range [2][2]halfCloser{{a, b}, {b, a}} {
		wg.Go(func() {
			sent[i] = send(ends[0], byte(i))
			if err := ends[0].CloseWrite(); err != nil && !errors.Is(err, errClosed) {
				t.Log(err) // the peer was quicker to end the connection
			}
		})
		wg.Go(func() {
			h := sha256.New()
			if n, err := io.Copy(h, ends[1]); n != int64(size) || err != nil {
				t.Errorf("read %d of %d: %v", n, size, err)
			}
			h.Sum(got[i][:0])
		})
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	for hang := time.After(patience); ; {
		select {
		case <-done:
			if sent != got {
				t.Error("the streams differ")
			}
			return
		case <-hang:
			t.Fatal("the streams stand still")
		case <-time.After(time.Millisecond): // so that something passes in between
			between()
		}
	}
}

// lossy is a link that loses, reorders and duplicates some packets; lossless loses none.
var (
	lossy    = sim.LinkConfig{AtoB: sim.Faults{Loss: 0.02, Duplicate: 0.01}, BtoA: sim.Faults{Loss: 0.02, Duplicate: 0.01}}
	lossless = sim.LinkConfig{}
)

// A hand-over that fails leaves the connection where it was: in the middle of streams
// both ways, at both ends, also while it ends.
func TestFreezeResume(t *testing.T) {
	for name, link := range map[string]sim.LinkConfig{"lossless": lossless, "lossy": lossy} {
		t.Run(name, func(t *testing.T) {
			a, b := newPair(t, pairOptions{link: link})
			for _, to := range []netip.Addr{addrB, six[addrB]} {
				c, s := connect(t, a, b, to)
				frozen := 0
				bothWays(t, c, s, 1<<20, func() {
					if frozen >= testlong.Pick(20, 1000) {
						return
					}
					for _, x := range []*TCPConn{c, s} {
						if _, err := x.Freeze(); err == nil {
							frozen++
							x.Resume()
						}
					}
				})
				c.Close()
				s.Close()
				if frozen == 0 {
					t.Error("nothing was frozen")
				}
			}
		})
	}
}

// A connection passes from one stack of a team to the other and back, in the middle of
// streams both ways: nothing is lost, and the peer gets no reset.
func TestAdopt(t *testing.T) {
	for name, link := range map[string]sim.LinkConfig{"lossless": lossless, "lossy": lossy} {
		t.Run(name, func(t *testing.T) {
			team, peer := newTeam(t, 2, pairOptions{link: link})
			for range testlong.Pick(1, 200) {
				for _, to := range []netip.Addr{addrB} {
					c, s := connect(t, team[0], peer, to)
					n := &nomad{c: c}
					moves := 0
					bothWays(t, n, s, 1<<20, func() {
						if moves < testlong.Pick(6, 1000) && n.move(t, team[(moves+1)%2]) {
							moves++
						}
					})
					n.Close()
					s.Close()
					if moves == 0 {
						t.Error("the connection did not move")
					}
				}
			}
			if st := peer.Stats(); st.TCP.EstabResets.Load() != 0 {
				t.Errorf("the peer got %d resets", st.TCP.EstabResets.Load())
			}
		})
	}
}

// TestExceptedFlow: a flow of a port of ours that was left to the kernel is taken, for as
// long as the port is ours: nobody connects between the same ends.
func TestExceptedFlow(t *testing.T) {
	a, b := newPair(t, pairOptions{})
	l, err := b.ListenTCP(netip.AddrPortFrom(addrB, 0), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := a.DialTCP(t.Context(), netip.AddrPort{}, l.Addr(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, _, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Freeze(); err != nil {
		t.Fatal(err)
	}
	s.Release()
	b.ports.leaving.mu.Lock()
	b.ports.leaving.flows = nil // as after a second
	b.ports.leaving.mu.Unlock()
	if !b.flowTaken(s.LocalAddr(), s.RemoteAddr(), 0) {
		t.Error("the flow of a connection that the kernel has is free")
	}
	if b.flowTaken(s.LocalAddr(), netip.AddrPortFrom(s.RemoteAddr().Addr(), 1), 0) {
		t.Error("a flow of nobody's is taken")
	}
}

// TestFreezeWriters: what one Write sends stays together, also where a hand-over that fails
// interrupts it and another Write waits.
func TestFreezeWriters(t *testing.T) {
	a, b := newPair(t, pairOptions{})
	c, s := connect(t, a, b, addrB)
	const size, each = 256 << 10, 8
	writers := []byte("xy")
	for _, letter := range writers {
		go func() {
			for range each {
				if _, err := c.Write(bytes.Repeat([]byte{letter}, size)); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	s.SetReadDeadline(time.Now().Add(patience))
	p := make([]byte, size)
	for i := range each * len(writers) {
		for n := 0; n < size; n += size / 4 {
			if _, err := c.Freeze(); err != nil {
				t.Fatal(err)
			}
			c.Resume()
			if _, err := io.ReadFull(s, p[n:][:size/4]); err != nil {
				t.Fatal(err)
			}
		}
		if n := bytes.Count(p, p[:1]); n != size {
			t.Fatalf("message %d: %d bytes of one Write, %d of another", i, n, size-n)
		}
	}
}
