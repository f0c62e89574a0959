package onload_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	onload "github.com/onload-go/onload/net"
)

// memoryGroup is ListenMulticastUDP of an engine over a link in memory.
func memoryGroup(t *testing.T, e *onload.Engine, network string, group netip.Addr) *onload.UDPConn {
	t.Helper()
	c, err := e.ListenMulticastUDP(network, nil, udpAddrOf(group, groupPort))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestMulticastMemory: where there is no kernel ListenMulticastUDP joins by the engine's
// link. Sockets share the port, send to the group, and do not hear themselves.
func TestMulticastMemory(t *testing.T) {
	a, b, err := onload.NewMemoryPair(onload.MemoryConfig{}, onload.MemoryConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	defer b.Close()
	for _, g := range groups {
		t.Run(g.network, func(t *testing.T) {
			here := memoryGroup(t, a, g.network, g.group)
			there := []*onload.UDPConn{memoryGroup(t, b, g.network, g.group), memoryGroup(t, b, g.network, g.group), memoryGroup(t, b, "udp", g.group)}
			if p := onload.PathOf(here); !p.Accelerated {
				t.Errorf("the path is %v", p)
			}
			if _, err := here.WriteTo([]byte("question"), udpAddrOf(g.group, groupPort)); err != nil {
				t.Fatal(err)
			}
			for i, c := range there {
				buf := make([]byte, 100)
				n, from, err := c.ReadFromUDP(buf)
				if err != nil || string(buf[:n]) != "question" {
					t.Fatalf("%q, %v", buf[:n], err)
				}
				if _, err := c.WriteTo(fmt.Append(nil, "answer ", i), from); err != nil {
					t.Fatal(err)
				}
			}
			for i := range there {
				buf := make([]byte, 100)
				n, err := here.Read(buf)
				if want := fmt.Append(nil, "answer ", i); err != nil || !bytes.Equal(buf[:n], want) {
					t.Errorf("%q, %v, want %q", buf[:n], err, want)
				}
			}
		})
	}
}

// TestMulticastMemoryRefuses: errors are those of net.ListenMulticastUDP.
func TestMulticastMemoryRefuses(t *testing.T) {
	a, b, err := onload.NewMemoryPair(onload.MemoryConfig{}, onload.MemoryConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	defer b.Close()
	var unknown net.UnknownNetworkError
	for _, c := range []struct {
		network string
		gaddr   *net.UDPAddr
		ok      func(error) bool
	}{
		{"tcp", udpAddrOf(groups[0].group, 1), func(err error) bool { return errors.As(err, &unknown) }},
		{"udp", nil, func(err error) bool { return err.Error() == "listen udp: missing address" }},
		{"udp", &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1}, func(err error) bool { return errors.Is(err, syscall.EINVAL) }},
		{"udp6", udpAddrOf(groups[0].group, 1), func(err error) bool { return errors.Is(err, syscall.EINVAL) }},
	} {
		conn, err := a.ListenMulticastUDP(c.network, nil, c.gaddr)
		if err == nil {
			conn.Close()
		}
		if err == nil || !c.ok(err) {
			t.Errorf("%s %v: %v", c.network, c.gaddr, err)
		}
	}
}
