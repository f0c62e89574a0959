package onload_test

import (
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
	"github.com/onload-go/onload/internal/testlong"
	onload "github.com/onload-go/onload/net"
)

// handed is an accelerated connection, and its peer of the kernel's.
type handed struct {
	t    *testing.T
	c    *onload.TCPConn
	peer *net.TCPConn
}

// newHanded connects host a to b, or lets b connect to a listener of a.
func newHanded(t *testing.T, a *onload.Engine, b *lab.NS, selfAddr, peerAddr string, dials bool) *handed {
	t.Helper()
	var l net.Listener
	var err error
	var from host = a
	if dials {
		l, err = b.Listen("tcp", net.JoinHostPort(peerAddr, "0"))
	} else {
		from = b
		l, err = a.Listen("tcp", net.JoinHostPort(selfAddr, "0"))
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() }) // it stays: its port is ours
	one, err := from.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	two, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if !dials {
		one, two = two, one
	}
	h := &handed{t, one.(*onload.TCPConn), two.(*net.TCPConn)}
	t.Cleanup(func() { h.c.Close(); h.peer.Close() })
	for _, c := range []net.Conn{one, two} {
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
	}
	if p := onload.PathOf(h.c); !p.Accelerated {
		t.Fatal("the connection is not accelerated: ", p)
	}
	return h
}

// stream is n bytes that differ from seed to seed.
func stream(seed uint64, n int) []byte {
	var key [32]byte
	key[0] = byte(seed)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b)
	return b
}

// exchange has both ends send n bytes and then their FIN, read all of the other's, and
// compare. during runs meanwhile, once so many bytes have come to c. The last byte waits
// for it.
func (h *handed) exchange(n, after int, during func()) {
	h.t.Helper()
	results, over := make(chan error, 4), make(chan struct{})
	send := func(c net.Conn, b []byte) {
		_, err := c.Write(b[:n-1])
		<-over
		if err == nil {
			_, err = c.Write(b[n-1:])
		}
		if err == nil {
			err = c.(interface{ CloseWrite() error }).CloseWrite()
		}
		results <- err
	}
	ours, theirs := stream(1, n), stream(2, n)
	go send(h.c, ours)
	go send(h.peer, theirs)
	came := make(chan struct{})
	sums := make(chan [2][32]byte, 2)
	receive := func(c io.Reader, want []byte) {
		s := sha256.New()
		if h.c == c {
			_, err := io.CopyN(s, c, int64(after))
			close(came)
			if err != nil {
				results <- err
				return
			}
		}
		_, err := io.Copy(s, c)
		sums <- [2][32]byte{[32]byte(s.Sum(nil)), sha256.Sum256(want)}
		results <- err
	}
	go receive(h.c, theirs)
	go receive(h.peer, ours)
	<-came
	during()
	close(over)
	for range 4 {
		if err := <-results; err != nil {
			h.t.Fatal(err)
		}
	}
	for range 2 {
		if s := <-sums; s[0] != s[1] {
			h.t.Error("the streams differ")
		}
	}
}

// TestFile: in the middle of bulk both ways File gives a socket of the kernel's, on
// which both the connection and the file go on: dialled or accepted, of both families.
func TestFile(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	a := vethEngine(t, p.A, onload.Config{})
	for _, six := range []bool{false, true} {
		self, peer, name := p.A.Addr4.String(), p.B.Addr4.String(), "IPv4"
		if six {
			self, peer, name = p.A.Addr6.String(), p.B.Addr6.String(), "IPv6"
		}
		for _, dials := range []bool{true, false} {
			t.Run(name+map[bool]string{true: " dialled", false: " accepted"}[dials], func(t *testing.T) {
				for range testlong.Pick(2, 1000) {
					h := newHanded(t, a, p.B, self, peer, dials)
					const n = 1 << 20
					h.exchange(n, rand.IntN(n), func() {
						f, err := h.c.File()
						if err != nil {
							t.Error(err)
							return
						}
						defer f.Close()
						if p := onload.PathOf(h.c); p.Accelerated || !strings.Contains(p.Reason, "File") {
							t.Error("path: ", p)
						}
						k, err := net.FileConn(f)
						if err != nil {
							t.Error(err)
							return
						}
						if k.RemoteAddr().String() != h.c.RemoteAddr().String() || k.LocalAddr().String() != h.c.LocalAddr().String() {
							t.Errorf("from %v to %v", k.LocalAddr(), k.RemoteAddr())
						}
						_ = k.Close() // of three descriptors
					})
				}
			})
		}
	}
}
