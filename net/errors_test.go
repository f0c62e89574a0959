package onload_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// errorHost is what the cases below need: net in a namespace, or an engine.
type errorHost interface {
	host
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
	dialFrom(local net.Addr, network, address string) (net.Conn, error)
}

type stdHost struct{ *lab.NS }

func (h stdHost) dialFrom(local net.Addr, network, address string) (c net.Conn, err error) {
	err = h.Do(func() error {
		c, err = (&net.Dialer{LocalAddr: local}).Dial(network, address)
		return err
	})
	return c, err
}

type onloadHost struct{ *onload.Engine }

func (h onloadHost) dialFrom(local net.Addr, network, address string) (net.Conn, error) {
	return (&onload.Dialer{Engine: h.Engine, LocalAddr: local}).Dial(network, address)
}

// tcpConn and udpConn are the methods that both types have.
type tcpConn interface {
	net.Conn
	io.ReaderFrom
	io.WriterTo
	CloseRead() error
	CloseWrite() error
	SetLinger(int) error
	SetNoDelay(bool) error
	SetKeepAlive(bool) error
	SetKeepAlivePeriod(time.Duration) error
	SetKeepAliveConfig(net.KeepAliveConfig) error
	SetReadBuffer(int) error
	SetWriteBuffer(int) error
}

type udpConn interface {
	net.Conn
	net.PacketConn
	WriteToUDPAddrPort([]byte, netip.AddrPort) (int, error)
	ReadFromUDPAddrPort([]byte) (int, netip.AddrPort, error)
	WriteMsgUDP(b, oob []byte, addr *net.UDPAddr) (n, oobn int, err error)
	ReadMsgUDPAddrPort(b, oob []byte) (n, oobn, flags int, addr netip.AddrPort, err error)
}

// errorLab is where an error case happens: h under test, and its peer, always
// the kernel, at peer.
type errorLab struct {
	t    *testing.T
	h    errorHost
	b    *lab.NS
	self string // address of h
	peer string // address of b
	dir  string // for files
}

// must is for what a case does not test.
func (l *errorLab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// tcp returns a connection from the host to its peer, and the peer's end.
func (l *errorLab) tcp() (tcpConn, *net.TCPConn) {
	l.t.Helper()
	ln, err := l.b.Listen("tcp", l.peer+":0")
	l.must(err)
	defer ln.Close()
	c, err := l.h.Dial("tcp", ln.Addr().String())
	l.must(err)
	s, err := ln.Accept()
	l.must(err)
	l.t.Cleanup(func() { c.Close(); s.Close() })
	return c.(tcpConn), s.(*net.TCPConn)
}

// udp returns a socket connected to one of the peer's.
func (l *errorLab) udp() (udpConn, net.PacketConn) {
	l.t.Helper()
	p, err := l.b.ListenPacket("udp", l.peer+":0")
	l.must(err)
	c, err := l.h.Dial("udp", p.LocalAddr().String())
	l.must(err)
	l.t.Cleanup(func() { c.Close(); p.Close() })
	return c.(udpConn), p
}

// bound returns a socket bound to a port of the host.
func (l *errorLab) bound() udpConn {
	l.t.Helper()
	c, err := l.h.ListenPacket("udp", l.self+":0")
	l.must(err)
	l.t.Cleanup(func() { c.Close() })
	return c.(udpConn)
}

func (l *errorLab) listen() net.Listener {
	l.t.Helper()
	ln, err := l.h.Listen("tcp", l.self+":0")
	l.must(err)
	l.t.Cleanup(func() { ln.Close() })
	return ln
}

var past = time.Unix(1, 0)

func second(_ any, err error) error { return err }

// count has a number compared as an error is.
func count(n int64) error { return fmt.Errorf("%d", n) }

// file returns a new file that holds s, open at its beginning.
func (l *errorLab) file(s string) *os.File {
	l.t.Helper()
	name := filepath.Join(l.dir, "file")
	l.must(os.WriteFile(name, []byte(s), 0o600))
	f, err := os.Open(name)
	l.must(err)
	l.t.Cleanup(func() { f.Close() })
	return f
}

// waitReset waits until c has seen a reset.
func waitReset(l *errorLab, c net.Conn) {
	c.SetReadDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		l.t.Errorf("no reset came: %v", err)
	}
}

// errorCases are the errors that a program can meet. Each must be the same
// from net and from this package.
var errorCases = []struct {
	name string
	run  func(l *errorLab) error
}{
	{"dial refused", func(l *errorLab) error { return second(l.h.Dial("tcp", l.peer+":9")) }},
	{"dial refused tcp4", func(l *errorLab) error { return second(l.h.Dial("tcp4", l.peer+":9")) }},
	{"dial refused from address", func(l *errorLab) error {
		return second(l.h.dialFrom(&net.TCPAddr{IP: net.ParseIP(l.self)}, "tcp", l.peer+":9"))
	}},
	{"dial no such neighbour", func(l *errorLab) error { return second(l.h.Dial("tcp", "10.77.0.99:9")) }},
	{"dial no route", func(l *errorLab) error { return second(l.h.Dial("tcp", "192.0.2.1:9")) }},
	{"dial local refused", func(l *errorLab) error { return second(l.h.Dial("tcp", l.self+":9")) }},
	{"dial cancelled before", func(l *errorLab) error {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		return second(l.h.DialContext(ctx, "tcp", l.peer+":9"))
	}},
	{"dial expired before", func(l *errorLab) error {
		ctx, cancel := context.WithDeadline(context.Background(), past)
		defer cancel()
		return second(l.h.DialContext(ctx, "tcp", l.peer+":9"))
	}},
	{"dial cancelled", func(l *errorLab) error {
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(50*time.Millisecond, cancel)
		return second(l.h.DialContext(ctx, "tcp", "10.77.0.98:9"))
	}},
	{"dial expired", func(l *errorLab) error {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		return second(l.h.DialContext(ctx, "tcp", "10.77.0.97:9"))
	}},
	{"dial from foreign address", func(l *errorLab) error {
		return second(l.h.dialFrom(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 7)}, "tcp", l.peer+":9"))
	}},
	{"dial from port in use", func(l *errorLab) error {
		port := l.listen().Addr().(*net.TCPAddr).Port
		return second(l.h.dialFrom(&net.TCPAddr{IP: net.ParseIP(l.self), Port: port}, "tcp", l.peer+":9"))
	}},
	{"dial from other family", func(l *errorLab) error {
		return second(l.h.dialFrom(&net.TCPAddr{IP: net.IPv6loopback}, "tcp", l.peer+":9"))
	}},
	{"dial from other network", func(l *errorLab) error {
		return second(l.h.dialFrom(&net.UDPAddr{}, "tcp", l.peer+":9"))
	}},
	{"dial unknown network", func(l *errorLab) error { return second(l.h.Dial("tcp5", l.peer+":9")) }},
	{"dial nothing", func(l *errorLab) error { return second(l.h.Dial("tcp", "")) }},
	{"dial without port", func(l *errorLab) error { return second(l.h.Dial("tcp", l.peer)) }},
	{"dial bad port", func(l *errorLab) error { return second(l.h.Dial("tcp", l.peer+":70000")) }},
	{"dial wrong family", func(l *errorLab) error { return second(l.h.Dial("tcp6", l.peer+":9")) }},

	{"read deadline", func(l *errorLab) error {
		c, _ := l.tcp()
		c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		return second(c.Read(make([]byte, 1)))
	}},
	{"write deadline", func(l *errorLab) error {
		c, _ := l.tcp()
		c.SetWriteDeadline(past)
		return second(c.Write(make([]byte, 1)))
	}},
	{"write deadline, buffer full", func(l *errorLab) error {
		c, s := l.tcp()
		b := make([]byte, 64<<20)
		go func() { // the Write has begun, and blocks or soon will
			_, _ = s.Read(make([]byte, 1))
			c.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
		}()
		n, err := c.Write(b)
		if n == 0 || n == 64<<20 {
			l.t.Errorf("wrote %d", n)
		}
		return err
	}},
	{"end of stream", func(l *errorLab) error {
		c, s := l.tcp()
		l.must(s.CloseWrite())
		return second(c.Read(make([]byte, 1)))
	}},
	{"read after close", func(l *errorLab) error {
		c, _ := l.tcp()
		l.must(c.Close())
		return second(c.Read(make([]byte, 1)))
	}},
	{"read during close", func(l *errorLab) error {
		c, _ := l.tcp()
		time.AfterFunc(20*time.Millisecond, func() { c.Close() })
		return second(c.Read(make([]byte, 1)))
	}},
	{"write after close", func(l *errorLab) error {
		c, _ := l.tcp()
		l.must(c.Close())
		return second(c.Write(make([]byte, 1)))
	}},
	{"close after close", func(l *errorLab) error {
		c, _ := l.tcp()
		l.must(c.Close())
		return c.Close()
	}},
	{"deadline after close", func(l *errorLab) error {
		c, _ := l.tcp()
		l.must(c.Close())
		return errors.Join(c.SetDeadline(time.Time{}), c.SetReadDeadline(time.Time{}), c.SetWriteDeadline(time.Time{}))
	}},
	{"options after close", func(l *errorLab) error {
		c, _ := l.tcp()
		l.must(c.Close())
		return errors.Join(c.SetLinger(0), c.SetNoDelay(true), c.SetKeepAlive(true), c.SetKeepAlivePeriod(time.Second),
			c.SetReadBuffer(1<<16), c.SetWriteBuffer(1<<16), c.CloseRead(), c.CloseWrite())
	}},
	{"negative keepalive period after close", func(l *errorLab) error {
		c, _ := l.tcp()
		l.must(c.Close())
		return c.SetKeepAlivePeriod(-1)
	}},
	{"data after CloseRead and CloseWrite", func(l *errorLab) error {
		c, s := l.tcp()
		l.must(c.CloseRead())
		l.must(c.CloseWrite())
		_, _ = s.Read(make([]byte, 1)) // the FIN has come
		for err := error(nil); err == nil; time.Sleep(time.Millisecond) {
			_, err = s.Write([]byte("x")) // the reset has come
		}
		return second(c.Read(make([]byte, 1)))
	}},
	{"write after CloseWrite", func(l *errorLab) error {
		c, _ := l.tcp()
		l.must(c.CloseWrite())
		return second(c.Write(make([]byte, 1)))
	}},
	{"read after CloseRead", func(l *errorLab) error {
		c, _ := l.tcp()
		l.must(c.CloseRead())
		return second(c.Read(make([]byte, 1)))
	}},
	{"read reset", func(l *errorLab) error {
		c, s := l.tcp()
		l.must(s.SetLinger(0))
		l.must(s.Close())
		return second(c.Read(make([]byte, 1)))
	}},
	{"read after reset", func(l *errorLab) error {
		c, s := l.tcp()
		l.must(s.SetLinger(0))
		l.must(s.Close())
		waitReset(l, c)
		return second(c.Read(make([]byte, 1)))
	}},
	{"write after reset", func(l *errorLab) error {
		c, s := l.tcp()
		l.must(s.SetLinger(0))
		l.must(s.Close())
		waitReset(l, c)
		return second(c.Write(make([]byte, 1)))
	}},
	{"CloseWrite after reset", func(l *errorLab) error {
		c, s := l.tcp()
		l.must(s.SetLinger(0))
		l.must(s.Close())
		waitReset(l, c)
		return c.CloseWrite()
	}},
	{"keepalive out of range", func(l *errorLab) error {
		c, _ := l.tcp()
		return errors.Join(c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 40000 * time.Second}),
			c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Count: 1000}))
	}},
	{"ReadFrom after close", func(l *errorLab) error {
		c, _ := l.tcp()
		l.must(c.Close())
		return second(c.ReadFrom(strings.NewReader("x")))
	}},
	{"WriteTo after close", func(l *errorLab) error {
		c, _ := l.tcp()
		l.must(c.Close())
		return second(c.WriteTo(io.Discard))
	}},

	{"copy from a reset connection", func(l *errorLab) error {
		c, _ := l.tcp()
		from, s := l.tcp()
		l.must(s.SetLinger(0))
		l.must(s.Close())
		n, err := c.ReadFrom(from)
		_, again := c.ReadFrom(from) // the error is told once
		return errors.Join(count(n), err, again)
	}},
	{"copy of what came before a reset", func(l *errorLab) error {
		c, sink := l.tcp()
		from, s := l.tcp()
		l.must(second(s.Write([]byte("x"))))
		done := make(chan error)
		go func() {
			n, err := io.Copy(c, from)
			done <- errors.Join(count(n), err)
		}()
		l.must(second(sink.Read(make([]byte, 1)))) // it is copied
		l.must(s.SetLinger(0))
		l.must(s.Close())
		return <-done
	}},
	{"copy to a reset connection", func(l *errorLab) error {
		c, s := l.tcp()
		from, sent := l.tcp()
		l.must(second(sent.Write([]byte("x"))))
		l.must(s.SetLinger(0))
		l.must(s.Close())
		waitReset(l, c)
		n, err := io.Copy(c, from)
		return errors.Join(count(n), err)
	}},
	{"copy to a connection that is shut down", func(l *errorLab) error {
		c, _ := l.tcp()
		from, sent := l.tcp()
		l.must(second(sent.Write([]byte("x"))))
		l.must(c.CloseWrite())
		n, err := c.ReadFrom(from)
		return errors.Join(count(n), err)
	}},
	{"copy from a closed connection", func(l *errorLab) error {
		c, _ := l.tcp()
		from, _ := l.tcp()
		l.must(from.Close())
		return errors.Join(second(c.ReadFrom(from)), second(from.WriteTo(c)))
	}},
	{"copy to a closed connection", func(l *errorLab) error {
		c, _ := l.tcp()
		from, sent := l.tcp()
		l.must(second(sent.Write([]byte("x"))))
		l.must(c.Close())
		return second(c.ReadFrom(from))
	}},
	{"copy from a connection that is closed meanwhile", func(l *errorLab) error {
		c, _ := l.tcp()
		from, _ := l.tcp()
		time.AfterFunc(20*time.Millisecond, func() { from.Close() })
		return second(c.ReadFrom(from))
	}},
	{"copy read deadline", func(l *errorLab) error {
		c, _ := l.tcp()
		from, _ := l.tcp()
		from.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		return second(io.Copy(c, from))
	}},
	{"copy write deadline", func(l *errorLab) error {
		c, _ := l.tcp()
		from, sent := l.tcp()
		l.must(second(sent.Write([]byte("x"))))
		c.SetWriteDeadline(past)
		return second(io.Copy(c, from))
	}},
	{"copy up to a limit", func(l *errorLab) error {
		c, s := l.tcp()
		from, sent := l.tcp()
		l.must(second(sent.Write([]byte("0123456789"))))
		limited := &io.LimitedReader{R: from, N: 4}
		n, err := c.ReadFrom(limited)
		got := make([]byte, 4)
		l.must(second(io.ReadFull(s, got)))
		rest := make([]byte, 10)
		k, _ := from.Read(rest)
		return errors.Join(count(n), err, fmt.Errorf("%q, then %q, %d left", got, rest[:k], limited.N))
	}},
	{"copy up to no limit", func(l *errorLab) error {
		c, _ := l.tcp()
		from, _ := l.tcp()
		n, err := c.ReadFrom(io.LimitReader(from, 0))
		return errors.Join(count(n), err)
	}},
	{"copy of a stream that ended", func(l *errorLab) error {
		c, _ := l.tcp()
		from, sent := l.tcp()
		l.must(second(sent.Write([]byte("x"))))
		l.must(sent.CloseWrite())
		n, err := io.Copy(c, from)
		again, err2 := io.Copy(c, from)
		return errors.Join(count(n), err, count(again), err2)
	}},
	{"send a file that is closed", func(l *errorLab) error {
		c, _ := l.tcp()
		f := l.file("x")
		l.must(f.Close())
		return second(c.ReadFrom(f))
	}},
	{"send a directory", func(l *errorLab) error {
		c, _ := l.tcp()
		f, err := os.Open(l.dir)
		l.must(err)
		defer f.Close()
		return second(c.ReadFrom(f))
	}},
	{"send a file to a reset connection", func(l *errorLab) error {
		c, s := l.tcp()
		l.must(s.SetLinger(0))
		l.must(s.Close())
		waitReset(l, c)
		f := l.file("x")
		n, err := c.ReadFrom(f)
		at, _ := f.Seek(0, io.SeekCurrent)
		return errors.Join(count(n), err, count(at))
	}},
	{"send a file to a closed connection", func(l *errorLab) error {
		c, _ := l.tcp()
		l.must(c.Close())
		return second(c.ReadFrom(l.file("x")))
	}},
	{"send a file, deadline", func(l *errorLab) error {
		c, _ := l.tcp()
		c.SetWriteDeadline(past)
		f := l.file("0123456789")
		limited := &io.LimitedReader{R: f, N: 5}
		n, err := c.ReadFrom(limited)
		at, _ := f.Seek(0, io.SeekCurrent)
		return errors.Join(count(n), err, count(limited.N), count(at))
	}},
	{"send a part of a file", func(l *errorLab) error {
		c, s := l.tcp()
		f := l.file("0123456789")
		l.must(second(f.Seek(2, io.SeekStart)))
		limited := &io.LimitedReader{R: f, N: 5}
		n, err := c.ReadFrom(limited)
		got := make([]byte, 5)
		l.must(second(io.ReadFull(s, got)))
		at, _ := f.Seek(0, io.SeekCurrent)
		return errors.Join(count(n), err, count(limited.N), count(at), errors.New(string(got)))
	}},

	{"listen in use", func(l *errorLab) error { return second(l.h.Listen("tcp", l.listen().Addr().String())) }},
	{"listen foreign address", func(l *errorLab) error { return second(l.h.Listen("tcp", "192.0.2.7:0")) }},
	{"listen without port", func(l *errorLab) error { return second(l.h.Listen("tcp", l.self)) }},
	{"listen unknown network", func(l *errorLab) error { return second(l.h.Listen("udp", l.self+":0")) }},
	{"accept after close", func(l *errorLab) error {
		ln := l.listen()
		l.must(ln.Close())
		return second(ln.Accept())
	}},
	{"accept during close", func(l *errorLab) error {
		ln := l.listen()
		time.AfterFunc(20*time.Millisecond, func() { ln.Close() })
		return second(ln.Accept())
	}},
	{"accept deadline", func(l *errorLab) error {
		ln := l.listen()
		l.must(ln.(interface{ SetDeadline(time.Time) error }).SetDeadline(time.Now().Add(10 * time.Millisecond)))
		return second(ln.Accept())
	}},
	{"listener close after close", func(l *errorLab) error {
		ln := l.listen()
		l.must(ln.Close())
		return ln.Close()
	}},
	{"listener deadline after close", func(l *errorLab) error {
		ln := l.listen()
		l.must(ln.Close())
		return ln.(interface{ SetDeadline(time.Time) error }).SetDeadline(past)
	}},

	{"udp refused", func(l *errorLab) error {
		c, err := l.h.Dial("udp", l.peer+":9")
		l.must(err)
		defer c.Close()
		l.must(second(c.Write([]byte("x"))))
		c.SetReadDeadline(time.Now().Add(patience))
		return second(c.Read(make([]byte, 1)))
	}},
	{"udp refused, ReadFrom", func(l *errorLab) error {
		c, err := l.h.Dial("udp", l.peer+":9")
		l.must(err)
		defer c.Close()
		l.must(second(c.Write([]byte("x"))))
		c.SetReadDeadline(time.Now().Add(patience))
		_, _, err = c.(udpConn).ReadFrom(make([]byte, 1))
		return err
	}},
	{"udp WriteTo when connected", func(l *errorLab) error {
		c, p := l.udp()
		return second(c.WriteTo([]byte("x"), p.LocalAddr()))
	}},
	{"udp WriteToUDPAddrPort when connected", func(l *errorLab) error {
		c, p := l.udp()
		return second(c.WriteToUDPAddrPort([]byte("x"), p.LocalAddr().(*net.UDPAddr).AddrPort()))
	}},
	{"udp WriteMsg when connected", func(l *errorLab) error {
		c, p := l.udp()
		_, _, err := c.WriteMsgUDP([]byte("x"), nil, p.LocalAddr().(*net.UDPAddr))
		return err
	}},
	{"udp too long", func(l *errorLab) error { c, _ := l.udp(); return second(c.Write(make([]byte, 70000))) }},
	{"udp WriteTo too long", func(l *errorLab) error {
		return second(l.bound().WriteTo(make([]byte, 70000), &net.UDPAddr{IP: net.ParseIP(l.peer), Port: 9}))
	}},
	{"udp Write when not connected", func(l *errorLab) error { return second(l.bound().Write([]byte("x"))) }},
	{"udp WriteTo nowhere", func(l *errorLab) error {
		return second(l.bound().WriteToUDPAddrPort([]byte("x"), netip.AddrPort{}))
	}},
	{"udp WriteTo TCP address", func(l *errorLab) error { return second(l.bound().WriteTo([]byte("x"), &net.TCPAddr{})) }},
	{"udp WriteTo no route", func(l *errorLab) error {
		return second(l.bound().WriteTo([]byte("x"), &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 9}))
	}},
	{"udp WriteTo other family", func(l *errorLab) error {
		return second(l.bound().WriteTo([]byte("x"), &net.UDPAddr{IP: net.ParseIP("fd77::1"), Port: 9}))
	}},
	{"udp read deadline", func(l *errorLab) error {
		c := l.bound()
		c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		_, _, err := c.ReadFrom(make([]byte, 1))
		return err
	}},
	{"udp write deadline", func(l *errorLab) error {
		c, _ := l.udp()
		c.SetWriteDeadline(past)
		return second(c.Write([]byte("x")))
	}},
	{"udp read after close", func(l *errorLab) error {
		c := l.bound()
		l.must(c.Close())
		_, _, err := c.ReadFrom(make([]byte, 1))
		return err
	}},
	{"udp read during close", func(l *errorLab) error {
		c := l.bound()
		time.AfterFunc(20*time.Millisecond, func() { c.Close() })
		_, _, err := c.ReadFromUDPAddrPort(make([]byte, 1))
		return err
	}},
	{"udp write after close", func(l *errorLab) error {
		c, _ := l.udp()
		l.must(c.Close())
		return second(c.Write([]byte("x")))
	}},
	{"udp close after close", func(l *errorLab) error {
		c := l.bound()
		l.must(c.Close())
		return c.Close()
	}},
	{"udp listen in use", func(l *errorLab) error {
		return second(l.h.ListenPacket("udp", l.bound().LocalAddr().String()))
	}},
	{"udp truncated", func(l *errorLab) error {
		c, p := l.udp()
		l.must(second(p.WriteTo([]byte("12345"), c.LocalAddr())))
		n, _, flags, _, err := c.ReadMsgUDPAddrPort(make([]byte, 3), nil)
		return fmt.Errorf("n %d, flags %#x, err %v", n, flags, err)
	}},
}

// describe tells all that a program can find out about err. Ports chosen by
// chance are masked.
func describe(err error) string {
	var b strings.Builder
	text := ""
	if err != nil {
		text = err.Error()
	}
	for _, e := range strings.Split(text, "\n") {
		fmt.Fprintf(&b, "text %q\n", maskPorts(e))
	}
	var walk func(err error, depth string)
	walk = func(err error, depth string) {
		switch e := err.(type) {
		case *net.OpError:
			fmt.Fprintf(&b, "%sOpError op %q net %q source %s addr %s timeout %v temporary %v\n", depth, e.Op, e.Net,
				describeAddr(e.Source), describeAddr(e.Addr), e.Timeout(), e.Temporary())
		case *os.SyscallError:
			fmt.Fprintf(&b, "%sSyscallError %q timeout %v\n", depth, e.Syscall, e.Timeout())
		case interface{ Unwrap() []error }:
			for _, e := range e.Unwrap() {
				walk(e, depth+" ")
			}
			return
		case nil:
			return
		default:
			fmt.Fprintf(&b, "%s%q\n", depth, maskPorts(err.Error()))
		}
		walk(errors.Unwrap(err), depth+" ")
	}
	walk(err, "")
	// A dial that times out is the one or the other in net, by chance.
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		b.WriteString("is a timeout\n")
	}
	for _, target := range []error{net.ErrClosed, context.Canceled, io.EOF,
		syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, syscall.EADDRINUSE, net.ErrWriteToConnected, os.ErrPermission} {
		if errors.Is(err, target) {
			fmt.Fprintf(&b, "is %v\n", target)
		}
	}
	if ne := net.Error(nil); errors.As(err, &ne) {
		fmt.Fprintf(&b, "timeout %v\n", ne.Timeout())
	}
	return b.String()
}

func describeAddr(a net.Addr) string {
	if v := reflect.ValueOf(a); a == nil || v.Kind() == reflect.Pointer && v.IsNil() {
		return fmt.Sprintf("%T <nil>", a)
	}
	s := fmt.Sprintf("%T %s %s", a, a.Network(), maskPorts(a.String()))
	if t, ok := a.(*net.TCPAddr); ok {
		s += fmt.Sprintf(" (%d bytes)", len(t.IP))
	}
	if u, ok := a.(*net.UDPAddr); ok {
		s += fmt.Sprintf(" (%d bytes)", len(u.IP))
	}
	return strings.NewReplacer("net.addrPortUDPAddr", "AddrPort", "onload.addrPortAddr", "AddrPort").Replace(s)
}

// maskPorts replaces port numbers that the kernel or the stack chose.
func maskPorts(s string) string {
	words := strings.Fields(s)
	for i, w := range words {
		for part := range strings.SplitSeq(w, "->") {
			part = strings.TrimSuffix(part, ":")
			if a, err := netip.ParseAddrPort(part); err == nil && a.Port() >= 10000 {
				words[i] = strings.ReplaceAll(words[i], part, a.Addr().String()+":PORT")
			}
		}
	}
	return strings.Join(words, " ")
}

// TestErrors compares the errors of net and of this package, side by side in
// one namespace.
func TestErrors(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	for _, tt := range errorCases {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			run := func(h errorHost) string {
				return describe(tt.run(&errorLab{t: t, h: h, b: p.B, self: p.A.Addr4.String(), peer: p.B.Addr4.String(), dir: dir}))
			}
			want := run(stdHost{p.A})
			if got := run(onloadHost{e}); got != want {
				t.Errorf("onload:\n%s\nnet:\n%s", got, want)
			}
		})
	}
}
