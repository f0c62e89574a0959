package onload_test

import (
	"net"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/nettest"

	onload "github.com/onload-go/onload/net"
)

// Addresses of the ends of a memory pair.
const (
	addrA  = "10.0.0.1"
	addrB  = "10.0.0.2"
	addrB6 = "[fd00::2]"
)

// patience bounds what would hang. No verdict depends on how fast the machine is.
const patience = time.Minute

// memoryPair returns two engines joined in memory, until the test ends.
func memoryPair(t testing.TB) (a, b *onload.Engine) {
	t.Helper()
	quiet := onload.Config{Logger: zap.NewNop()}
	a, b, err := onload.NewMemoryPair(onload.MemoryConfig{Config: quiet}, onload.MemoryConfig{Config: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := b.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return a, b
}

// tcpPipe returns both ends of a connection from a to b.
func tcpPipe(t testing.TB, a, b *onload.Engine) (client, server *onload.TCPConn) {
	t.Helper()
	ln, err := b.Listen("tcp", addrB+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := a.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); s.Close() })
	return c.(*onload.TCPConn), s.(*onload.TCPConn)
}

func TestNettestMemory(t *testing.T) {
	for _, address := range []string{addrB + ":0", addrB6 + ":0", ":0"} {
		t.Run(address, func(t *testing.T) {
			a, b := memoryPair(t)
			nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
				ln, err := b.Listen("tcp", address)
				if err != nil {
					return nil, nil, nil, err
				}
				defer ln.Close()
				to := ln.Addr().String()
				if address == ":0" {
					_, port, _ := net.SplitHostPort(to)
					to = addrB + ":" + port
				}
				if c1, err = a.Dial("tcp", to); err != nil {
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
