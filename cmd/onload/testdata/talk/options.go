package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// sendsFile sends a file as io.Copy does, by the connection's ReadFrom.
func sendsFile(c net.Conn, _ string) error {
	f, err := os.CreateTemp("", "talk")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	want := strings.Repeat("a file ", 20_000)
	if _, err := f.WriteString(want); err != nil {
		return err
	}
	if _, err := f.Seek(7, io.SeekStart); err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() {
		n, err := io.Copy(c, io.LimitReader(f, int64(len(want)-14)))
		if at, _ := f.Seek(0, io.SeekCurrent); err == nil && (n != int64(len(want)-14) || at != int64(len(want)-7)) {
			err = fmt.Errorf("sendfile: %d bytes, then at %d", n, at)
		}
		sent <- err
	}()
	got := make([]byte, len(want)-14)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want[7:len(want)-7] {
		return fmt.Errorf("a file: %v", err)
	}
	return <-sent
}

// rawConn asks the descriptor as connection pools do: whether the peer is there, and
// for options.
func rawConn(c net.Conn, _ string) error {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	var n int
	var rerr error
	err = raw.Read(func(fd uintptr) bool {
		n, rerr = syscall.Read(int(fd), make([]byte, 1))
		return true
	})
	if err != nil || n > 0 || rerr != syscall.EAGAIN {
		return fmt.Errorf("RawConn.Read: %d, %v, %v", n, rerr, err)
	}
	const userTimeout = 18 // TCP_USER_TIMEOUT
	var v, noDelay int
	err = raw.Control(func(fd uintptr) {
		rerr = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, userTimeout, 9000)
		noDelay, _ = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_NODELAY)
	})
	if err != nil || rerr != nil || noDelay == 0 {
		return fmt.Errorf("RawConn.Control: %v, %v, TCP_NODELAY %d", err, rerr, noDelay)
	}
	err = raw.Control(func(fd uintptr) { v, rerr = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, userTimeout) })
	if err != nil || v != 9000 {
		return fmt.Errorf("RawConn.Control: TCP_USER_TIMEOUT %d, %v", v, err)
	}
	return nil
}

// hooked dials with a Control hook.
func hooked(_ net.Conn, host string) error {
	called := 0
	d := net.Dialer{Timeout: time.Minute, Control: func(network, address string, c syscall.RawConn) error {
		called++
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 1<<16) })
	}}
	c, err := d.Dial("tcp", net.JoinHostPort(host, "7"))
	if err != nil || called != 1 {
		return fmt.Errorf("a hook was called %d times: %v", called, err)
	}
	return c.Close()
}

// filed takes a copy of a connection's file while an echo is on its way. Both go on.
func filed(_ net.Conn, host string) error {
	c, err := net.Dial("tcp", net.JoinHostPort(host, "7"))
	if err != nil {
		return err
	}
	defer c.Close()
	const last = "by the file"
	want := strings.Repeat("a file ", 100_000)
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(c, want)
		sent <- err
	}()
	got := make([]byte, len(want)+len(last))
	if _, err := io.ReadFull(c, got[:1000]); err != nil {
		return err
	}
	f, err := c.(*net.TCPConn).File()
	if err != nil {
		return fmt.Errorf("File of a connection: %w", err)
	}
	defer f.Close()
	after := make(chan error, 1)
	go func() {
		err := <-sent
		if err == nil {
			_, err = io.WriteString(f, last)
		}
		after <- err
	}()
	if _, err := io.ReadFull(c, got[1000:]); err != nil || string(got) != want+last {
		return fmt.Errorf("after File: %v", err)
	}
	return <-after
}

// messages exchanges datagrams with control messages, and by a descriptor, which is
// the kernel's from then on.
func messages(_ net.Conn, host string) error {
	raddr, err := net.ResolveUDPAddr("udp", net.JoinHostPort(host, "7"))
	if err != nil {
		return err
	}
	for _, bound := range []bool{false, true} {
		c, to, err := open(bound, raddr)
		if err != nil {
			return err
		}
		if err := exchange(c, to, false); err != nil {
			return fmt.Errorf("datagrams, bound %v: %w", bound, err)
		}
		raw, err := c.SyscallConn()
		if err != nil {
			return err
		}
		level, opt := syscall.IPPROTO_IP, syscall.IP_RECVTTL
		if raddr.IP.To4() == nil {
			level, opt = syscall.IPPROTO_IPV6, syscall.IPV6_RECVHOPLIMIT
		}
		if err := raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), level, opt, 1) }); err != nil {
			return err
		}
		if err := exchange(c, to, true); err != nil {
			return fmt.Errorf("control messages, bound %v: %w", bound, err)
		}
		f, err := c.File()
		if err != nil {
			return fmt.Errorf("File, bound %v: %w", bound, err)
		}
		_ = f.Close()
		if err := exchange(c, to, true); err != nil {
			return fmt.Errorf("after File, bound %v: %w", bound, err)
		}
		if err := c.Close(); err != nil {
			return err
		}
		if _, err := c.Write(nil); !errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("Write of a closed socket: %v", err)
		}
	}
	return nil
}

func open(bound bool, raddr *net.UDPAddr) (c *net.UDPConn, to *net.UDPAddr, err error) {
	if !bound {
		c, err = net.DialUDP("udp", nil, raddr)
		return c, nil, err
	}
	c, err = net.ListenUDP("udp", nil)
	return c, raddr, err
}

// exchange sends a datagram and awaits the answer; one may be lost.
func exchange(c *net.UDPConn, to *net.UDPAddr, control bool) (err error) {
	b, oob := make([]byte, 100), make([]byte, 100)
	for range 10 {
		if _, _, err = c.WriteMsgUDP([]byte("message"), nil, to); err != nil {
			return err
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		var n, oobn int
		n, oobn, _, _, err = c.ReadMsgUDP(b, oob)
		if err != nil {
			continue
		}
		if string(b[:n]) != "message" || (oobn > 0) != control {
			return fmt.Errorf("%q with %d bytes of control messages", b[:n], oobn)
		}
		return nil
	}
	return err
}
