package engine_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/onload-go/onload/internal/lab"
	onload "github.com/onload-go/onload/net"
)

// talker is a conversation between a socket in A, the engine's or the kernel's,
// and one of the kernel's in R. One end asks; the other echoes.
type talker struct {
	name string // what it is, the same for the engine's and the kernel's
	ours bool
	near io.Closer // the socket in A
	far  io.Closer

	answers atomic.Int64

	mu    sync.Mutex
	errs  map[string]int // errors of the socket in A, by errno
	ended error          // nil: it lives. TCP only
	wrong error          // bytes that were never sent so, or an error in R
}

func (k *talker) String() string {
	if k.ours {
		return k.name + ", ours"
	}
	return k.name + ", the kernel's"
}

// path is how the packets of the socket in A travel.
func (k *talker) path() string {
	if c, ok := k.near.(net.Conn); ok && k.ours {
		return onload.PathOf(c).String()
	}
	return ""
}

// errno names err for comparisons. An error of waiting too long has no name: the
// talkers set deadlines.
func errno(err error) string {
	var e syscall.Errno
	switch {
	case err == nil || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed):
		return ""
	case errors.As(err, &e):
		return unix.ErrnoName(e)
	}
	return err.Error()
}

// saw notes an error of the socket in A.
func (k *talker) saw(err error) {
	if name := errno(err); name != "" {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.errs[name]++
	}
}

// end notes why a TCP connection ended, at one end.
func (k *talker) end(err error, near bool) {
	if errors.Is(err, net.ErrClosed) {
		return // the test closed it
	}
	if near {
		k.saw(err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended == nil {
		k.ended = fmt.Errorf("in %s: %w", map[bool]string{true: "A", false: "R"}[near], err)
	}
}

func (k *talker) failed(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.wrong == nil {
		k.wrong = err
	}
}

// pace is the pause between two questions, on average: hundreds of conversations
// share two processors with the changes.
const pace = 20 * time.Millisecond

func pause() { time.Sleep(pace/2 + rand.N(pace)) }

// question fills b, of at least 8 bytes: each byte depends on the number.
func question(b []byte, n uint64) {
	binary.BigEndian.PutUint64(b, n)
	for i := 8; i < len(b); i++ {
		b[i] = byte(n*31 + uint64(i)*7)
	}
}

// askTCP asks over c, whose other end echoes, until it ends. Every tenth question is long.
func (k *talker) askTCP(c net.Conn, near bool) {
	b, got := make([]byte, 40_000), make([]byte, 40_000)
	for n := uint64(1); ; n++ {
		size := 8 + rand.IntN(700)
		if n%10 == 0 {
			size = len(b) - rand.IntN(1000)
		}
		question(b[:size], n)
		if _, err := c.Write(b[:size]); err != nil {
			k.end(err, near)
			return
		}
		if _, err := io.ReadFull(c, got[:size]); err != nil {
			k.end(err, near)
			return
		}
		if !bytes.Equal(b[:size], got[:size]) {
			k.failed(fmt.Errorf("the answer of %d bytes to question %d is another", size, n))
			return
		}
		k.answers.Add(1)
		pause()
	}
}

// echoTCP echoes what comes over c.
func (k *talker) echoTCP(c net.Conn, near bool) {
	_, err := io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c})
	if err == nil {
		err = io.EOF // the other end has closed, which only the test does
	}
	k.end(err, near)
}

// askUDP asks over a connected socket until that is closed. A datagram may be lost.
func (k *talker) askUDP(c net.Conn, near bool) {
	b, got := make([]byte, 3000), make([]byte, 3000)
	note := func(err error) {
		if near {
			k.saw(err)
		}
	}
	for n := uint64(1); ; n++ {
		size := 8 + rand.IntN(1000)
		if n%10 == 0 {
			size = len(b) // in fragments
		}
		question(b[:size], n)
		_, err := c.Write(b[:size])
		note(err)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		_ = c.SetReadDeadline(time.Now().Add(10 * pace))
		for {
			l, err := c.Read(got)
			note(err)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				continue
			}
			if l < 8 {
				k.failed(fmt.Errorf("an answer of %d bytes", l))
				return
			}
			if m := binary.BigEndian.Uint64(got); m < n {
				continue // late
			}
			if !bytes.Equal(b[:size], got[:l]) {
				k.failed(fmt.Errorf("the answer of %d bytes to question %d of %d bytes is another", l, n, size))
				return
			}
			k.answers.Add(1)
			break
		}
		pause()
	}
}

// echoUDP echoes what comes to a bound socket.
func (k *talker) echoUDP(c net.PacketConn, near bool) {
	b := make([]byte, 4000)
	for {
		n, from, err := c.ReadFrom(b)
		if err == nil {
			_, err = c.WriteTo(b[:n], from)
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			pause() // it may come again at once
		}
		if near {
			k.saw(err)
		}
	}
}

// host makes the sockets of a conversation in A: the engine's or the kernel's.
type host interface {
	dial(network string, local netip.Addr, to string) (net.Conn, error)
	Listen(network, address string) (net.Listener, error)
	ListenPacket(network, address string) (net.PacketConn, error)
}

type engineHost struct{ *onload.Engine }

func (e engineHost) dial(network string, local netip.Addr, to string) (net.Conn, error) {
	at := netip.MustParseAddrPort(to)
	if network == "udp" {
		return e.DialUDP(network, net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0)), net.UDPAddrFromAddrPort(at))
	}
	return e.DialTCP(network, net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0)), net.TCPAddrFromAddrPort(at))
}

type kernelHost struct{ *lab.NS }

func (h kernelHost) dial(network string, local netip.Addr, to string) (c net.Conn, err error) {
	at := netip.MustParseAddrPort(to)
	err = h.Do(func() error {
		if network == "udp" {
			c, err = net.DialUDP(network, net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0)), net.UDPAddrFromAddrPort(at))
		} else {
			c, err = net.DialTCP(network, net.TCPAddrFromAddrPort(netip.AddrPortFrom(local, 0)), net.TCPAddrFromAddrPort(at))
		}
		return err
	})
	return c, err
}
