package onload_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// hang bounds what would hang; no verdict depends on it.
const hang = time.Minute

// echoThrough has conns connections from client to server, at once, send something
// and get it back.
func echoThrough(client, server host, address string, conns int) error {
	ln, err := server.Listen("tcp", net.JoinHostPort(address, "0"))
	if err != nil {
		return err
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	done := make(chan error)
	for i := range conns {
		go func() {
			done <- func() error {
				c, err := client.Dial("tcp", ln.Addr().String())
				if err != nil {
					return err
				}
				defer c.Close()
				if err := c.SetDeadline(time.Now().Add(hang)); err != nil {
					return err
				}
				msg := bytes.Repeat([]byte{byte(i), byte(i >> 8), 7}, 20_000)
				go func() { _, _ = c.Write(msg) }() // the Read sees what became of it
				got := make([]byte, len(msg))
				if _, err := io.ReadFull(c, got); err != nil {
					return err
				}
				if !bytes.Equal(got, msg) {
					return errors.New("what came back differs")
				}
				return nil
			}()
		}()
	}
	var errs []error
	for range conns {
		errs = append(errs, <-done)
	}
	return errors.Join(errs...)
}

// datagramsThrough has sockets of client, connected ones, send datagrams to a bound
// one of server and read the answers.
func datagramsThrough(client, server host, address string, socks int) error {
	pc, err := server.ListenPacket("udp", net.JoinHostPort(address, "0"))
	if err != nil {
		return err
	}
	defer pc.Close()
	go func() {
		b := make([]byte, 1<<16)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = pc.WriteTo(b[:n], from)
		}
	}()
	for i := range socks {
		c, err := client.Dial("udp", pc.LocalAddr().String())
		if err != nil {
			return err
		}
		for _, size := range []int{1, 1400, 5000} {
			msg, got := bytes.Repeat([]byte{byte(i + 1)}, size), make([]byte, 1<<16)
			if _, err := c.Write(msg); err != nil {
				return err
			}
			if err := c.SetDeadline(time.Now().Add(hang)); err != nil {
				return err
			}
			if n, err := c.Read(got); err != nil || !bytes.Equal(got[:n], msg) {
				return fmt.Errorf("socket %d: %d bytes of %d, %w", i, n, size, err)
			}
		}
		if err := c.Close(); err != nil {
			return err
		}
	}
	return nil
}

// TestStacks: with several stacks over an interface, everything that a kernel or
// another engine sends arrives, whichever queue it comes by. The kernel chooses the
// queue of a veth by a random number of its socket.
func TestStacks(t *testing.T) {
	for _, queues := range []int{2, 4} {
		for _, mode := range []onload.Mode{onload.ModeNative, onload.ModeGeneric} {
			t.Run(fmt.Sprintf("queues=%d/%v", queues, mode), func(t *testing.T) {
				p := lab.NewPair(t, lab.Options{Queues: queues})
				cfg := onload.Config{Mode: mode, Stacks: queues}
				a, b := vethEngine(t, p.A, cfg), vethEngine(t, p.B, cfg)
				if st := a.Status()[0]; st.Stacks != queues || st.Queues != queues {
					t.Fatalf("%d stacks over %d queues", st.Stacks, st.Queues)
				}
				for _, tt := range []struct {
					name           string
					client, server host
				}{{"onload to onload", a, b}, {"kernel to onload", p.A, b}, {"onload to kernel", a, p.B}} {
					if err := echoThrough(tt.client, tt.server, p.B.Addr4.String(), 32); err != nil {
						t.Errorf("TCP, %s: %v", tt.name, err)
					}
					if err := datagramsThrough(tt.client, tt.server, p.B.Addr6.String(), 16); err != nil {
						t.Errorf("UDP, %s: %v", tt.name, err)
					}
				}
				if n := a.Stats()[p.A.If].TCPDials; n != 64 {
					t.Errorf("the stacks count %d dials, want 64", n)
				}
			})
		}
	}
}

// TestStacksTooMany: a number of stacks that the interface has no queues for is an
// error that names the setting.
func TestStacksTooMany(t *testing.T) {
	p := lab.NewPair(t, lab.Options{Queues: 2})
	_, err := onload.New(onload.Config{NetNS: p.A.Path, Interfaces: []string{p.A.If}, Stacks: 3, Fallback: true})
	if err == nil || !strings.Contains(err.Error(), "ONLOAD_STACKS") {
		t.Errorf("3 stacks of 2 queues: %v", err)
	}
	e := vethEngine(t, p.A, onload.Config{Stacks: onload.PerCore})
	if n := e.Status()[0].Stacks; n < 1 || n > 2 {
		t.Errorf("one stack for each core: %d of 2 queues", n)
	}
}

// TestNettestStacks is net's own suite over several stacks.
func TestNettestStacks(t *testing.T) {
	p := lab.NewPair(t, lab.Options{Queues: 2})
	cfg := onload.Config{Stacks: 2}
	a, b := vethEngine(t, p.A, cfg), vethEngine(t, p.B, cfg)
	for _, tt := range []struct {
		name           string
		client, server host
	}{{"onload to onload", a, b}, {"kernel to onload", p.A, b}, {"onload to kernel", a, p.B}} {
		t.Run(tt.name, func(t *testing.T) {
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				ln, err := tt.server.Listen("tcp", net.JoinHostPort(p.B.Addr4.String(), "0"))
				if err != nil {
					return nil, nil, nil, err
				}
				defer ln.Close()
				if c1, err = tt.client.Dial("tcp", ln.Addr().String()); err != nil {
					return nil, nil, nil, err
				}
				if c2, err = ln.Accept(); err != nil {
					return nil, nil, nil, err
				}
				return c1, c2, func() { c1.Close(); c2.Close() }, nil
			})
		})
	}
}
