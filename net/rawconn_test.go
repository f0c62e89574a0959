package onload_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
	"github.com/onload-go/onload/tcp"
)

// tcpSocket is what the tests below ask of both kinds of connection.
type tcpSocket interface {
	net.Conn
	syscall.Conn
	SetLinger(sec int) error
	CloseWrite() error
}

// rawPairs are a connection of the kernel's and one of e, with their peers.
func rawPairs(t *testing.T, p *lab.Pair, e *onload.Engine, address string) (conns, peers [2]tcpSocket) {
	t.Helper()
	l, err := p.B.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for i, h := range []host{p.A, e} {
		c, err := h.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		s, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close(); s.Close() })
		c.SetDeadline(time.Now().Add(patience))
		conns[i], peers[i] = c.(tcpSocket), s.(tcpSocket)
	}
	if !onload.PathOf(conns[1]).Accelerated {
		t.Fatal(onload.PathOf(conns[1]))
	}
	return conns, peers
}

// TestRawRead: system calls in RawConn.Read find on onload's connection what they
// find on the kernel's: data, peeked at or read, the end, a reset, or nothing.
func TestRawRead(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	peek := func(n int) func(tcpSocket) string {
		return func(c tcpSocket) string { return rawRecv(c, n, unix.MSG_PEEK) }
	}
	recv := func(n int) func(tcpSocket) string { return func(c tcpSocket) string { return rawRecv(c, n, 0) } }
	read := func(c tcpSocket) string {
		b := make([]byte, 100)
		n, err := c.Read(b)
		return fmt.Sprintf("read %q, %v", b[:n], bare(err))
	}
	write := func(data string) func(tcpSocket) {
		return func(c tcpSocket) { c.Write([]byte(data)) }
	}
	reset := func(c tcpSocket) { c.SetLinger(0); c.Close() }
	for _, tt := range []struct {
		name string
		peer func(tcpSocket)
		// When does the connection have what the peer has done? n bytes, or an end.
		bytes int
		end   bool
		calls []func(tcpSocket) string
	}{
		{"idle", func(tcpSocket) {}, 0, false, []func(tcpSocket) string{peek(1), recv(1), peek(1)}},
		{"data", write("abcdef"), 6, false, []func(tcpSocket) string{peek(1), peek(4), recv(2), peek(100), read, peek(1)}},
		{"data, all read", write("abc"), 3, false, []func(tcpSocket) string{recv(100), recv(1), peek(1)}},
		{"end", func(c tcpSocket) { c.CloseWrite() }, 0, true, []func(tcpSocket) string{peek(1), recv(1), read, peek(1)}},
		{"data and end", func(c tcpSocket) { write("abc")(c); c.CloseWrite() }, 3, true, []func(tcpSocket) string{peek(9), recv(2), recv(9), peek(1), read}},
		{"reset, peeked", reset, 0, true, []func(tcpSocket) string{peek(1), peek(1), read}},
		{"reset, received", reset, 0, true, []func(tcpSocket) string{recv(1), recv(1), read}},
		{"reset, read", reset, 0, true, []func(tcpSocket) string{read, peek(1), read}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conns, peers := rawPairs(t, p, e, p.B.Addr4.String())
			var got [2]string
			for i, c := range conns {
				tt.peer(peers[i])
				if err := arrived(c, tt.bytes, tt.end); err != nil {
					t.Fatal(err)
				}
				for _, call := range tt.calls {
					got[i] += call(c) + "; "
				}
			}
			if got[0] != got[1] {
				t.Errorf("kernel: %s\nonload: %s", got[0], got[1])
			}
		})
	}
}

// rawRecv is recvfrom by RawConn.Read, and its result in words.
func rawRecv(c syscall.Conn, size, flags int) string {
	raw, err := c.SyscallConn()
	if err != nil {
		return err.Error()
	}
	b := make([]byte, size)
	var n int
	var rerr error
	err = raw.Read(func(fd uintptr) bool {
		n, _, rerr = unix.Recvfrom(int(fd), b, flags|unix.MSG_DONTWAIT)
		return true
	})
	return fmt.Sprintf("recv %q, %v, %v", b[:max(n, 0)], rerr, bare(err))
}

// bare is err without addresses.
func bare(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		return fmt.Errorf("%s: %w", op.Op, op.Err)
	}
	return err
}

// arrived waits, by polls that change nothing, until c has so many bytes, and its
// end.
func arrived(c tcpSocket, bytes int, end bool) error {
	return eventually(func() bool {
		if k, ok := c.(*net.TCPConn); ok {
			raw, err := k.SyscallConn()
			ready := false
			if err == nil {
				err = raw.Control(func(fd uintptr) {
					n, _ := unix.IoctlGetInt(int(fd), unix.SIOCINQ)
					f := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
					_, _ = unix.Poll(f, 0)
					ready = n == bytes && (!end || f[0].Revents&(unix.POLLRDHUP|unix.POLLHUP) != 0)
				})
			}
			return err == nil && ready
		}
		i, err := c.(*onload.TCPConn).Info()
		return err == nil && int(i.BytesReceived) >= bytes && (!end || i.State != tcp.Established)
	})
}

// TestRawReadWaits: RawConn.Read calls its function again when more has come, until
// it is done, the deadline is over, or the connection closed.
func TestRawReadWaits(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	conns, peers := rawPairs(t, p, e, p.B.Addr6.String())
	var got [2]string
	for i, c := range conns {
		raw, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		// Peek until there are six bytes, which come three by three.
		b := make([]byte, 10)
		calls, n := 0, 0
		err = raw.Read(func(fd uintptr) bool {
			if calls++; calls <= 2 {
				peers[i].Write([]byte("abc"))
			}
			n, _, err = unix.Recvfrom(int(fd), b, unix.MSG_PEEK|unix.MSG_DONTWAIT)
			return n >= 6
		})
		got[i] = fmt.Sprintf("%q, %v; ", b[:max(n, 0)], err)
		// Read them, and wait for the end.
		var all []byte
		err = raw.Read(func(fd uintptr) bool {
			for {
				n, _, err := unix.Recvfrom(int(fd), b[:4], unix.MSG_DONTWAIT)
				if err == unix.EAGAIN {
					if len(all) == 6 {
						peers[i].CloseWrite()
					}
					return false // it is called again when there is more
				}
				if n == 0 || err != nil {
					return true
				}
				all = append(all, b[:n]...)
			}
		})
		got[i] += fmt.Sprintf("%q, %v; ", all, err)
		// Nothing comes any more.
		c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		err = raw.Read(func(uintptr) bool { return false })
		got[i] += fmt.Sprintf("%v, %v; ", bare(err), errors.Is(err, os.ErrDeadlineExceeded))
		err = raw.Read(func(uintptr) bool { t.Error("the deadline is over"); return true })
		got[i] += fmt.Sprintf("%v; ", bare(err))
		c.SetReadDeadline(time.Time{})
		closed := make(chan struct{})
		go func() { c.Close(); close(closed) }()
		err = raw.Read(func(uintptr) bool { return false })
		<-closed
		got[i] += fmt.Sprintf("%v", bare(err))
		for _, err := range []error{raw.Control(func(uintptr) { t.Error("closed") }), raw.Write(func(uintptr) bool { t.Error("closed"); return true })} {
			got[i] += fmt.Sprintf("; %v", bare(err))
		}
	}
	if got[0] != got[1] {
		t.Errorf("kernel: %s\nonload: %s", got[0], got[1])
	}
}

// TestRawWrite: data written by system calls in RawConn.Write is sent.
func TestRawWrite(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	conns, peers := rawPairs(t, p, e, p.B.Addr4.String())
	out := make([]byte, 3<<20)
	for i := range out {
		out[i] = byte(i ^ i>>8 ^ i>>16)
	}
	for i, c := range conns {
		raw, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		received := make(chan error, 1)
		go func() {
			in, err := io.ReadAll(peers[i])
			if err == nil && !bytes.Equal(in, out) {
				err = fmt.Errorf("%d bytes, and not those that were sent", len(in))
			}
			received <- err
		}()
		sent := 0
		if err := raw.Write(func(fd uintptr) bool {
			for sent < len(out) {
				n, err := unix.Write(int(fd), out[sent:])
				if err == unix.EAGAIN {
					return false
				}
				if err != nil {
					t.Errorf("write: %v", err)
					return true
				}
				sent += n
			}
			return true
		}); err != nil {
			t.Error(err)
		}
		if err := c.CloseWrite(); err != nil {
			t.Error(err)
		}
		if err := <-received; err != nil {
			t.Errorf("%T: %v", c, err)
		}
		var werr error
		err = raw.Write(func(fd uintptr) bool { _, werr = unix.Write(int(fd), []byte("x")); return true })
		if err != nil || werr != unix.EPIPE {
			t.Errorf("%T, after CloseWrite: %v, %v", c, werr, err)
		}
	}
}

// TestRawControl: options that are set on an open connection are followed, or
// refused.
func TestRawControl(t *testing.T) {
	p := lab.NewPair(t, lab.Options{})
	e := vethEngine(t, p.A, onload.Config{})
	for _, address := range []string{p.B.Addr4.String(), p.B.Addr6.String()} {
		conns, peers := rawPairs(t, p, e, address)
		c := conns[1].(*onload.TCPConn)
		setUDP(t, c, [3]int{unix.IPPROTO_TCP, unix.TCP_NODELAY, 0}, [3]int{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 5000},
			[3]int{unix.SOL_SOCKET, unix.SO_RCVBUF, 50000}, [3]int{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 99})
		if err := raw(t, c).Control(func(fd uintptr) {
			if v, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE); v != 1 || err != nil {
				t.Errorf("SO_KEEPALIVE, which net sets: %d, %v", v, err)
			}
			if err := unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, "reno"); err != nil {
				t.Error(err)
			}
		}); err != nil {
			t.Error(err)
		}
		if i, err := c.Info(); i.Congestion != "newreno" || err != nil {
			t.Errorf("congestion control %q, %v", i.Congestion, err)
		}
		// x/net's options, on the wire.
		for i, c := range conns {
			var err error
			if strings.Contains(address, ":") {
				x := ipv6.NewConn(c)
				err = errors.Join(x.SetTrafficClass(0xb8), x.SetHopLimit(33))
			} else {
				x := ipv4.NewConn(c)
				err = errors.Join(x.SetTOS(0xb8), x.SetTTL(33))
			}
			if err != nil {
				t.Fatal(err)
			}
			seen := sniff(t, p.B, []byte("with other headers"))
			if _, err := c.Write([]byte("with other headers")); err != nil {
				t.Fatal(err)
			}
			if tos, ttl := seen(); tos != 0xb8 || ttl != 33 {
				t.Errorf("%T to %s: TOS %#x, TTL %d", c, address, tos, ttl)
			}
			if _, err := io.ReadFull(peers[i], make([]byte, 18)); err != nil {
				t.Error(err)
			}
		}
		// Methods that only the kernel's connections have return an error that
		// names them.
		err := raw(t, c).Control(func(fd uintptr) {
			if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PRIORITY, 3); err != nil {
				t.Error(err)
			}
		})
		if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "SO_PRIORITY") {
			t.Error(err)
		}
	}
}

// sniff returns a function that waits for the next packet at ns with the payload,
// and returns its TOS and TTL.
func sniff(t *testing.T, ns *lab.NS, payload []byte) (seen func() (tos, ttl byte)) {
	t.Helper()
	fd := -1
	err := ns.Do(func() (err error) {
		all := uint16(unix.ETH_P_ALL)
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(all<<8|all>>8))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	wait := unix.NsecToTimeval(int64(patience))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		t.Fatal(err)
	}
	return func() (tos, ttl byte) {
		b := make([]byte, 2048)
		for {
			n, _, err := unix.Recvfrom(fd, b, 0)
			switch {
			case err != nil:
				t.Fatal(err)
			case !bytes.HasSuffix(b[:n], payload):
			case b[0]>>4 == 4:
				return b[1], b[8]
			default:
				return b[0]<<4 | b[1]>>4, b[7]
			}
		}
	}
}

func raw(t *testing.T, c syscall.Conn) syscall.RawConn {
	t.Helper()
	r, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return r
}
