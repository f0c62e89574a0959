package onload_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/onload-go/onload/internal/allocs"
	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

func TestZeroLength(t *testing.T) {
	a, b := memoryPair(t)
	c, s := tcpPipe(t, a, b)
	if n, err := c.Write(nil); n != 0 || err != nil {
		t.Errorf("Write: %d, %v", n, err)
	}
	if n, err := c.Read(nil); n != 0 || err != nil {
		t.Errorf("Read: %d, %v", n, err)
	}
	// Nothing was sent: the first byte is the next write's.
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 2)
	if n, err := s.Read(buf); n != 1 || err != nil || buf[0] != 'x' {
		t.Errorf("Read: %d, %v, %q", n, err, buf)
	}
}

func TestHalfClose(t *testing.T) {
	a, b := memoryPair(t)
	c, s := tcpPipe(t, a, b)
	if _, err := c.Write([]byte("request")); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(s)
	if err != nil || string(got) != "request" {
		t.Fatalf("%q, %v", got, err)
	}
	if _, err := s.Write([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err = io.ReadAll(c); err != nil || string(got) != "answer" {
		t.Fatalf("%q, %v", got, err)
	}
}

// TestCopy sends through ReadFrom and WriteTo, which io.Copy finds.
func TestCopy(t *testing.T) {
	a, b := memoryPair(t)
	c, s := tcpPipe(t, a, b)
	c2, s2 := tcpPipe(t, a, b)
	data := make([]byte, 3<<20)
	rand.NewChaCha8([32]byte{1}).Read(data)

	var wg sync.WaitGroup
	wg.Go(func() { // a proxy between the two
		if n, err := io.Copy(s2, s); n != int64(len(data)) || err != nil {
			t.Errorf("proxy: %d, %v", n, err)
		}
		s2.Close()
	})
	wg.Go(func() {
		if n, err := c.ReadFrom(io.LimitReader(bytes.NewReader(append(data, 1)), int64(len(data)))); n != int64(len(data)) || err != nil {
			t.Errorf("ReadFrom: %d, %v", n, err)
		}
		c.CloseWrite()
	})
	var got bytes.Buffer
	if n, err := c2.WriteTo(&got); n != int64(len(data)) || err != nil {
		t.Errorf("WriteTo: %d, %v", n, err)
	}
	wg.Wait()
	if !bytes.Equal(got.Bytes(), data) {
		t.Error("the bytes differ")
	}
}

// TestPartialWrite: a deadline in the middle of a write tells how much went.
func TestPartialWrite(t *testing.T) {
	a, b := memoryPair(t)
	c, s := tcpPipe(t, a, b)
	data := make([]byte, 32<<20)
	done := make(chan struct{})
	var n int
	var err error
	go func() {
		defer close(done)
		n, err = c.Write(data)
	}()
	if _, err := io.ReadFull(s, make([]byte, 1)); err != nil { // the Write is at it
		t.Fatal(err)
	}
	c.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
	<-done
	if !errors.Is(err, os.ErrDeadlineExceeded) || n <= 0 || n >= len(data) {
		t.Fatalf("%d, %v", n, err)
	}
	// The deadline can be lifted, and the rest follows.
	c.SetWriteDeadline(time.Time{})
	go func() {
		c.Write(data[n:])
		c.CloseWrite()
	}()
	if got, err := io.Copy(io.Discard, s); got != int64(len(data)-1) || err != nil {
		t.Errorf("%d, %v", got, err)
	}
}

// TestConcurrent has many goroutines use one connection: writes are whole.
func TestConcurrent(t *testing.T) {
	a, b := memoryPair(t)
	c, s := tcpPipe(t, a, b)
	const writers, messages, size = 8, 50, 3000
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for range messages {
				if _, err := c.Write(bytes.Repeat([]byte{byte(i)}, size)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	go func() {
		wg.Wait()
		c.CloseWrite()
	}()
	var seen [writers]int
	for msg := make([]byte, size); ; {
		if _, err := io.ReadFull(s, msg); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(msg, bytes.Repeat(msg[:1], size)) {
			t.Fatal("writes are mixed")
		}
		seen[msg[0]]++
	}
	for i, n := range seen {
		if n != messages {
			t.Errorf("writer %d: %d messages", i, n)
		}
	}
}

// TestZeroValues: the methods of nil and of zero values fail as net's do.
func TestZeroValues(t *testing.T) {
	for _, c := range []*onload.TCPConn{nil, {}} {
		_, rerr := c.Read(nil)
		_, werr := c.Write(nil)
		_, ferr := c.ReadFrom(nil)
		_, terr := c.WriteTo(nil)
		_, serr := c.SyscallConn()
		_, merr := c.MultipathTCP()
		_, file := c.File()
		for i, err := range []error{rerr, werr, ferr, terr, serr, merr, file, c.Close(), c.CloseRead(), c.CloseWrite(),
			c.SetDeadline(time.Time{}), c.SetReadDeadline(time.Time{}), c.SetWriteDeadline(time.Time{}), c.SetLinger(0), c.SetNoDelay(true),
			c.SetKeepAlive(true), c.SetKeepAlivePeriod(0), c.SetKeepAliveConfig(onload.KeepAliveConfig{}), c.SetReadBuffer(1), c.SetWriteBuffer(1)} {
			if err != syscall.EINVAL {
				t.Errorf("TCPConn, call %d: %v", i, err)
			}
		}
		if c.LocalAddr() != nil || c.RemoteAddr() != nil {
			t.Error("TCPConn has addresses")
		}
	}
	for _, c := range []*onload.UDPConn{nil, {}} {
		_, rerr := c.Read(nil)
		_, werr := c.Write(nil)
		_, _, ferr := c.ReadFrom(nil)
		_, _, _, _, merr := c.ReadMsgUDP(nil, nil)
		_, terr := c.WriteTo(nil, nil)
		_, _, gerr := c.WriteMsgUDP(nil, nil, nil)
		_, serr := c.SyscallConn()
		_, file := c.File()
		for i, err := range []error{rerr, werr, ferr, merr, terr, gerr, serr, file, c.Close(), c.SetDeadline(time.Time{}),
			c.SetReadBuffer(1), c.SetWriteBuffer(1)} {
			if err != syscall.EINVAL {
				t.Errorf("UDPConn, call %d: %v", i, err)
			}
		}
	}
	for _, l := range []*onload.TCPListener{nil, {}} {
		_, aerr := l.Accept()
		_, serr := l.SyscallConn()
		_, file := l.File()
		for i, err := range []error{aerr, serr, file, l.Close(), l.SetDeadline(time.Time{})} {
			if err != syscall.EINVAL {
				t.Errorf("TCPListener, call %d: %v", i, err)
			}
		}
	}
}

// connCheck is how go-redis and the MySQL driver ask whether a pooled
// connection is still alive.
func connCheck(c syscall.Conn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var found error
	err = raw.Read(func(fd uintptr) bool {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch {
		case n == 0 && err == nil:
			found = io.EOF
		case n > 0:
			found = errors.New("unexpected data")
		case err != syscall.EAGAIN:
			found = err
		}
		return true
	})
	return errors.Join(err, found)
}

func TestConnCheck(t *testing.T) {
	a, b := memoryPair(t)
	c, s := tcpPipe(t, a, b)
	if err := connCheck(c); err != nil {
		t.Errorf("idle: %v", err)
	}
	if _, err := s.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if err := eventually(func() bool { return connCheck(c) != nil }); err != nil {
		t.Error("a connection with data seems idle")
	}
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := connCheck(c); err != nil {
		t.Errorf("idle again: %v", err)
	}
	s.Close()
	if err := eventually(func() bool { return connCheck(c) != nil }); err != nil {
		t.Error("a closed connection seems idle")
	}
}

// A connection may be asked while another goroutine reads: it is idle then.
func TestConnCheckWhileReading(t *testing.T) {
	a, b := memoryPair(t)
	c, s := tcpPipe(t, a, b)
	go func() {
		defer s.Close()
		for range 2000 {
			s.Write([]byte("abc"))
		}
	}()
	done := make(chan error, 1)
	go func() {
		n, err := io.Copy(io.Discard, struct{ io.Reader }{c})
		if err == nil && n != 6000 {
			err = fmt.Errorf("%d bytes", n)
		}
		done <- err
	}()
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
			if connCheck(c) == nil {
				t.Error("a connection that has ended seems idle")
			}
			return
		default:
			_ = connCheck(c) // between two reads it may find data
		}
	}
}

func eventually(cond func() bool) error {
	for end := time.Now().Add(patience); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return errors.New("timeout")
		}
	}
	return nil
}

func TestNoDescriptor(t *testing.T) {
	a, b := memoryPair(t)
	c, _ := tcpPipe(t, a, b)
	_, file := c.File()
	u, err := a.Dial("udp", addrB+":9")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	_, ufile := u.(*onload.UDPConn).File()
	uraw, err := u.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for i, err := range []error{
		file, ufile, uraw.Read(func(uintptr) bool { return true }), uraw.Write(func(uintptr) bool { return true }),
	} {
		var op *net.OpError
		if !errors.Is(err, errors.ErrUnsupported) || !errors.As(err, &op) {
			t.Errorf("call %d: %v", i, err)
		}
	}
}

// TestAllocs: reading and writing allocate nothing.
func TestAllocs(t *testing.T) {
	a, b := memoryPair(t)
	c, s := tcpPipe(t, a, b)
	p := make([]byte, 100)
	if n := allocs.PerRun(1000, func() {
		if _, err := c.Write(p); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(s, p); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("TCP: %v allocations", n)
	}
	u, err := a.Dial("udp", addrB+":7")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	bound, err := b.ListenUDP("udp", &onload.UDPAddr{IP: net.ParseIP(addrB), Port: 7})
	if err != nil {
		t.Fatal(err)
	}
	defer bound.Close()
	if n := allocs.PerRun(1000, func() {
		if _, err := u.Write(p); err != nil {
			t.Fatal(err)
		}
		_, from, err := bound.ReadFromUDPAddrPort(p)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bound.WriteToUDPAddrPort(p, from); err != nil {
			t.Fatal(err)
		}
		if _, err := u.Read(p); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("UDP: %v allocations", n)
	}
}

// failing fails with err whichever way it is used.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error)  { return 0, f.err }
func (f failing) Write([]byte) (int, error) { return 0, f.err }

// TestCopyErrors: the errors of the other side of ReadFrom and WriteTo come
// out as they are, in net's OpError.
func TestCopyErrors(t *testing.T) {
	a, b := memoryPair(t)
	for _, e := range []error{syscall.EPERM, context.Canceled, context.DeadlineExceeded, io.ErrUnexpectedEOF} {
		c, s := tcpPipe(t, a, b)
		if _, err := s.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		_, from := c.ReadFrom(failing{e})
		_, to := c.WriteTo(failing{e})
		for _, err := range []error{from, to} {
			if op, ok := err.(*net.OpError); !ok || op.Err != e {
				t.Errorf("%v: %#v", e, err)
			}
		}
	}
}

// TestEngineClose: blocked calls return when their engine closes.
func TestEngineClose(t *testing.T) {
	a, b := memoryPair(t)
	c, _ := tcpPipe(t, a, b)
	ln, err := a.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	errs := make(chan error, 2)
	go func() { _, err := c.Read(make([]byte, 1)); errs <- err }()
	go func() { _, err := ln.Accept(); errs <- err }()
	time.Sleep(20 * time.Millisecond)
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	for range 2 {
		select {
		case err := <-errs:
			if !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Fatal("a call still blocks")
		}
	}
	if _, err := a.Dial("tcp", addrB+":1"); err == nil {
		t.Error("Dial on a closed engine")
	}
}

// Opening a socket while the engine closes gives one, or the error that the engine
// is closed. Its state can be asked for meanwhile.
func TestEngineCloseDuringDial(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	far, err := p.B.Listen("tcp", p.B.Addr4.String()+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	for range 5 {
		e, err := onload.New(onload.Config{NetNS: p.A.Path, Interfaces: []string{p.A.If}, Frames: 2048, RingSize: 512, Logger: zap.NewNop()})
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var opened atomic.Int64
		for name, open := range map[string]func() (io.Closer, error){
			"dial tcp": func() (io.Closer, error) { return e.Dial("tcp", far.Addr().String()) },
			"dial udp": func() (io.Closer, error) { return e.Dial("udp", far.Addr().String()) },
			"listen":   func() (io.Closer, error) { return e.Listen("tcp", p.A.Addr4.String()+":0") },
			"bind":     func() (io.Closer, error) { return e.ListenPacket("udp", p.A.Addr4.String()+":0") },
		} {
			wg.Go(func() {
				for {
					c, err := open()
					if err != nil {
						if !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrClosed) {
							t.Errorf("%s: %v", name, err)
						}
						return
					}
					c.Close()
					opened.Add(1)
				}
			})
		}
		asking := make(chan struct{})
		wg.Go(func() {
			for {
				select {
				case <-asking:
					return
				default:
					e.Status()
					e.Stats()
				}
			}
		})
		for opened.Load() < 40 && !t.Failed() {
			time.Sleep(time.Millisecond)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		close(asking)
		wg.Wait()
	}
}

// TestEngineCloseKernelPart: the kernel's part of a listener ends with its engine,
// and takes no more clients. Calls on the engine fail as net's do on closed
// sockets.
func TestEngineCloseKernelPart(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	ln, err := e.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	u, err := e.ListenPacket("udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	waiting, err := p.A.Dial("tcp", "127.0.0.1:"+portOf(ln))
	if err != nil {
		t.Fatal(err)
	}
	defer waiting.Close()
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	waiting.SetReadDeadline(time.Now().Add(patience))
	if _, err := waiting.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a client that nobody accepted: %v", err)
	}
	if c, err := p.A.Dial("tcp", "127.0.0.1:"+portOf(ln)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a client that comes later: %v", err)
		c.Close()
	}
	if c, err := p.A.ListenPacket("udp", u.LocalAddr().String()); err != nil {
		t.Errorf("the port: %v", err)
	} else {
		c.Close()
	}
	_, accept := ln.Accept()
	_, _, read := u.ReadFrom(make([]byte, 1))
	_, dial := e.Dial("tcp", "127.0.0.1:9")
	_, dialUDP := e.DialUDP("udp", nil, &net.UDPAddr{Port: 9})
	_, listen := e.Listen("tcp", ":0")
	_, listenUDP := e.ListenUDP("udp", nil)
	for i, err := range []error{accept, read, dial, dialUDP, listen, listenUDP} {
		if op := (*net.OpError)(nil); !errors.As(err, &op) || !errors.Is(err, net.ErrClosed) {
			t.Errorf("call %d: %v", i, err)
		}
	}
}

// SetUserTimeout works on both kinds of connections, and refuses what it
// cannot count.
func TestSetUserTimeout(t *testing.T) {
	a, b := memoryPair(t)
	c, _ := tcpPipe(t, a, b)
	e, err := onload.New(onload.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	k, err := e.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*onload.TCPConn{"accelerated": c, "kernel": k.(*onload.TCPConn)} {
		for d, ok := range map[time.Duration]bool{0: true, time.Second: true, -1: false, time.Microsecond: false, 600 * time.Hour: false} {
			if err := c.SetUserTimeout(d); (err == nil) != ok {
				t.Errorf("%s, %v: %v", name, d, err)
			}
		}
		c.Close()
		if err := c.SetUserTimeout(time.Second); !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s, closed: %v", name, err)
		}
	}
}
