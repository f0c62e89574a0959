// Command talk is a plain Go program: a web server, an echo of TCP and UDP, or a
// client of them.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	var err error
	switch os.Args[1] {
	case "serve":
		err = serve(os.Args[2])
	case "ask":
		err = ask(os.Args[2])
	default:
		err = errors.New("usage: talk serve|ask ADDRESS")
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// serve serves HTTP on port 80, and echoes on port 7 of TCP and UDP.
func serve(host string) error {
	web, err := net.Listen("tcp", net.JoinHostPort(host, "80"))
	if err != nil {
		return err
	}
	echo, err := net.Listen("tcp", net.JoinHostPort(host, "7"))
	if err != nil {
		return err
	}
	packets, err := net.ListenPacket("udp", net.JoinHostPort(host, "7"))
	if err != nil {
		return err
	}
	go echoPackets(packets)
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.(*net.TCPConn).CloseWrite()
				_ = c.Close()
			}()
		}
	}()
	fmt.Println("ready 0")
	return http.Serve(web, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "hello %s", r.RemoteAddr)
	}))
}

func echoPackets(c net.PacketConn) {
	b := make([]byte, 2048)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		_, _ = c.WriteTo(b[:n], from)
	}
}

// ask talks to a server, and says what it found different from package net's
// documentation. It then says the port of a connection, which is open until the
// input ends.
func ask(host string) error {
	answer, err := http.Get("http://" + net.JoinHostPort(host, "80"))
	if err != nil {
		return err
	}
	body, err := io.ReadAll(answer.Body)
	if err != nil || !strings.HasPrefix(string(body), "hello ") {
		return fmt.Errorf("HTTP: %q, %v", body, err)
	}
	open, err := net.Dial("tcp", net.JoinHostPort(host, "7"))
	if err != nil {
		return err
	}
	for _, check := range []func(net.Conn, string) error{writes, deadline, closeWakes, refused, datagrams, sendsFile, rawConn, hooked, filed, messages} {
		if err := check(open, host); err != nil {
			return err
		}
	}
	fmt.Println("ready", open.LocalAddr().(*net.TCPAddr).Port)
	_, _ = io.Copy(io.Discard, os.Stdin)
	return nil
}

// writes sends by Write and by net.Buffers.
func writes(c net.Conn, _ string) error {
	want := strings.Repeat("onload ", 100_000)
	var group sync.WaitGroup
	group.Go(func() {
		_, _ = io.WriteString(c, want[:1000])
		v := net.Buffers{[]byte(want[1000:1007]), nil, []byte(want[1007:5000]), []byte(want[5000:])}
		if n, err := v.WriteTo(c); n != int64(len(want)-1000) || err != nil || len(v) != 0 {
			fmt.Printf("Buffers wrote %d, %v, left %d\n", n, err, len(v))
		}
	})
	got := make([]byte, len(want))
	_, err := io.ReadFull(c, got)
	group.Wait()
	if err != nil || string(got) != want {
		return fmt.Errorf("echo: %d bytes, %v", len(got), err)
	}
	return nil
}

func deadline(c net.Conn, _ string) error {
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	_, err := c.Read(make([]byte, 1))
	var ne net.Error
	if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &ne) || !ne.Timeout() {
		return fmt.Errorf("a deadline: %v", err)
	}
	return c.SetReadDeadline(time.Time{})
}

func closeWakes(_ net.Conn, host string) error {
	c, err := net.Dial("tcp", net.JoinHostPort(host, "7"))
	if err != nil {
		return err
	}
	done := make(chan error)
	go func() {
		_, err := c.Read(make([]byte, 1))
		done <- err
	}()
	time.Sleep(time.Millisecond) // mostly the Read waits by then
	if err := c.Close(); err != nil {
		return err
	}
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("Read of a closed connection: %v", err)
	}
	return nil
}

func refused(_ net.Conn, host string) error {
	_, err := net.Dial("tcp", net.JoinHostPort(host, "9"))
	var op *net.OpError
	var sys *os.SyscallError
	if !errors.As(err, &op) || op.Op != "dial" || !errors.As(err, &sys) || sys.Syscall != "connect" || !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("a closed port: %v", err)
	}
	return nil
}

func datagrams(_ net.Conn, host string) error {
	c, err := net.Dial("udp", net.JoinHostPort(host, "7"))
	if err != nil {
		return err
	}
	defer c.Close()
	b := make([]byte, 2048)
	for try := 0; ; try++ {
		if _, err := c.Write([]byte("datagram")); err != nil {
			return err
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		n, err := c.Read(b)
		if err == nil && string(b[:n]) == "datagram" {
			return nil
		}
		if try == 10 {
			return fmt.Errorf("a datagram: %q, %v", b[:n], err)
		}
	}
}
