package interop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// errHost is net inside a namespace, or an engine on its interface.
type errHost interface {
	packetHost
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
	dialWith(timeout time.Duration, local net.Addr, network, address string) (net.Conn, error)
}

type netHost struct{ *lab.NS }

func (h netHost) dialWith(timeout time.Duration, local net.Addr, network, address string) (c net.Conn, err error) {
	err = h.Do(func() error {
		c, err = (&net.Dialer{Timeout: timeout, LocalAddr: local}).Dial(network, address)
		return err
	})
	return c, err
}

type engineHost struct{ *onload.Engine }

func (h engineHost) dialWith(timeout time.Duration, local net.Addr, network, address string) (net.Conn, error) {
	return (&onload.Dialer{Engine: h.Engine, Timeout: timeout, LocalAddr: local}).Dial(network, address)
}

// scene is where a situation takes place: h in namespace A, and a kernel peer
// in B. It notes everything that the program can find out, which must be the
// same for net and for onload.
type scene struct {
	*testing.T
	h     errHost
	pair  *lab.Pair
	v6    bool
	notes strings.Builder
}

func (s *scene) addr(ns *lab.NS) netip.Addr {
	if s.v6 {
		return ns.Addr6
	}
	return ns.Addr4
}

// at is an address of ns with that port.
func (s *scene) at(ns *lab.NS, port uint16) string {
	return netip.AddrPortFrom(s.addr(ns), port).String()
}

// other is an address that is neither A's nor B's, on their network.
func (s *scene) other(host byte) netip.Addr {
	b := s.addr(s.pair.B).AsSlice()
	b[len(b)-1] = host
	a, _ := netip.AddrFromSlice(b)
	return a
}

func (s *scene) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// note notes everything that a program can find out about err.
func (s *scene) note(what string, err error) {
	fmt.Fprintf(&s.notes, "%s: %s\n", what, describe(err))
}

// noteN notes a number and an error.
func (s *scene) noteN(what string) func(int, error) {
	return func(n int, err error) {
		fmt.Fprintf(&s.notes, "%s: %d\n", what, n)
		s.note(what, err)
	}
}

// dialed notes the outcome of a dial that should fail.
func (s *scene) dialed(c net.Conn, err error) {
	if err == nil {
		c.Close()
	}
	s.note("dial", err)
}

type fullConn interface {
	net.Conn
	CloseRead() error
	CloseWrite() error
	SetLinger(int) error
}

// conn connects h to the peer.
func (s *scene) conn() (c fullConn, peer *net.TCPConn) {
	s.Helper()
	l, err := s.pair.B.Listen("tcp", s.at(s.pair.B, 0))
	s.must(err)
	defer l.Close()
	d, err := s.h.Dial("tcp", l.Addr().String())
	s.must(err)
	p, err := l.Accept()
	s.must(err)
	s.Cleanup(func() { d.Close(); p.Close() })
	return d.(fullConn), p.(*net.TCPConn)
}

// accepted has the peer connect to h.
func (s *scene) accepted() (c fullConn, peer *net.TCPConn) {
	s.Helper()
	l := s.listen(s.h, "tcp", s.at(s.pair.A, 0))
	defer l.Close()
	p, err := s.pair.B.Dial("tcp", l.Addr().String())
	s.must(err)
	d, err := l.Accept()
	s.must(err)
	s.Cleanup(func() { d.Close(); p.Close() })
	return d.(fullConn), p.(*net.TCPConn)
}

func (s *scene) listen(h host, network, address string) net.Listener {
	s.Helper()
	l, err := h.Listen(network, address)
	s.must(err)
	s.Cleanup(func() { l.Close() })
	return l
}

// listenAgain notes the outcome of a Listen that should fail.
func (s *scene) listenAgain(h host, network, address string) {
	l, err := h.Listen(network, address)
	if err == nil {
		l.Close()
	}
	s.note("listen", err)
}

// udp returns a socket of h that is connected to port of the peer.
func (s *scene) udp(port uint16) net.Conn {
	s.Helper()
	c, err := s.h.Dial("udp", s.at(s.pair.B, port))
	s.must(err)
	s.Cleanup(func() { c.Close() })
	return c
}

var one = []byte("x")

const (
	travel = 100 * time.Millisecond // a packet's time on its way, mostly: see arrived
	soon   = 5 * time.Second        // for what does not come
	hung   = time.Minute            // a call that takes so long hangs, however busy the machine is
)

func (s *scene) limit(cs ...net.Conn) {
	for _, c := range cs {
		s.must(c.SetDeadline(time.Now().Add(hung)))
	}
}

// arrived waits until what h and the peer have sent so far, and answers to it, are
// where they go: another connection's bytes have gone both ways behind them.
func (s *scene) arrived() {
	s.Helper()
	time.Sleep(travel) // for what travels apart
	l, err := s.pair.B.Listen("tcp", s.at(s.pair.B, 0))
	s.must(err)
	defer l.Close()
	go echoAll(l)
	c, err := s.h.Dial("tcp", l.Addr().String())
	s.must(err)
	defer c.Close()
	s.limit(c)
	for range 2 {
		_, err = c.Write(one)
		s.must(err)
		_, err = c.Read(make([]byte, 1))
		s.must(err)
	}
}

// reset has the peer abort its end.
func (s *scene) reset(peer *net.TCPConn) {
	s.must(peer.SetLinger(0))
	s.must(peer.Close())
	s.arrived()
}

var classes = []error{syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, syscall.ETIMEDOUT, syscall.EHOSTUNREACH,
	syscall.ENETUNREACH, syscall.EADDRINUSE, syscall.EADDRNOTAVAIL, syscall.EMSGSIZE, syscall.ENOTCONN,
	net.ErrClosed, io.EOF, context.Canceled, os.ErrPermission}

// describe is all that a program can find out about err; ports are masked.
func describe(err error) string {
	if err == nil {
		return "nil"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%q", mask(err.Error()))
	for _, c := range classes {
		if errors.Is(err, c) {
			fmt.Fprintf(&b, " is(%v)", c)
		}
	}
	// net returns one of two errors for a dial that times out, by chance.
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		b.WriteString(" is(deadline)")
	}
	if e := net.Error(nil); errors.As(err, &e) {
		fmt.Fprintf(&b, " timeout=%v", e.Timeout())
	}
	for ; err != nil; err = errors.Unwrap(err) {
		switch e := err.(type) {
		case *net.OpError:
			fmt.Fprintf(&b, " OpError{%s %s %s %s}", e.Op, e.Net, address(e.Source), address(e.Addr))
		case *os.SyscallError:
			fmt.Fprintf(&b, " SyscallError{%s}", e.Syscall)
		}
	}
	return b.String()
}

func address(a net.Addr) string {
	if a == nil {
		return "nil"
	}
	return fmt.Sprintf("%T(%s)", a, mask(a.String()))
}

// mask replaces the ports that the kernel or the stack chose.
func mask(s string) string {
	words := strings.Fields(strings.ReplaceAll(s, "->", " -> "))
	for i, w := range words {
		host, port, err := net.SplitHostPort(strings.TrimSuffix(w, ":"))
		if n, nan := strconv.Atoi(port); err == nil && nan == nil && n >= 1024 {
			words[i] = "[" + host + "]:PORT"
		}
	}
	return strings.Join(words, " ")
}

// TestErrors runs every situation with net and with onload, side by side in
// one namespace, over both families.
func TestErrors(t *testing.T) {
	pair := lab.NewPair(t, lab.Options{})
	e := engine(t, pair.A)
	for _, ns := range []*lab.NS{pair.A, pair.B} { // all the answers that we ask for
		if err := errors.Join(ns.Sysctl("net.ipv4.icmp_ratelimit", "0"), ns.Sysctl("net.ipv6.icmp.ratelimit", "0")); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []struct {
		name string
		v6   bool
	}{{"v4", false}, {"v6", true}} {
		for _, all := range [][]situation{dialSituations, streamSituations, closeSituations, listenSituations, packetSituations} {
			for _, tt := range all {
				t.Run(f.name+"/"+tt.name, func(t *testing.T) {
					t.Parallel()
					var notes [2]string
					for i, h := range []errHost{netHost{pair.A}, engineHost{e}} {
						s := &scene{T: t, h: h, pair: pair, v6: f.v6}
						start := time.Now()
						tt.run(s)
						if d := time.Since(start); d > hung {
							t.Errorf("%T took %v", h, d)
						}
						notes[i] = s.notes.String()
					}
					if notes[0] == "" {
						t.Error("nothing was compared")
					}
					if notes[0] != notes[1] {
						t.Errorf("net:\n%sonload:\n%s", notes[0], notes[1])
					}
				})
			}
		}
	}
}

// situation is something that a program can get into.
type situation struct {
	name string
	run  func(*scene)
}
