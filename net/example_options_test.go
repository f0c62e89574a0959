package onload_test

import (
	"context"
	"fmt"
	"io"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	onload "github.com/onload-go/onload/net"
)

// A Control hook sets socket options, as with net.Dialer. Those that a stack can
// follow hold for accelerated connections too; see the package's description.
func ExampleDialer_control() {
	ln, err := onload.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ln.Close()

	d := onload.Dialer{
		Timeout: 5 * time.Second,
		Control: func(network, address string, c syscall.RawConn) (err error) {
			if failed := c.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 10_000)
			}); failed != nil {
				return failed
			}
			fmt.Println("hook of", network)
			return err
		},
	}
	c, err := d.Dial("tcp", ln.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	fmt.Println("connected")
	// Output:
	// hook of tcp4
	// connected
}

// The hook of a ListenConfig sees the kernel's socket, which holds the port.
// SO_REUSEPORT lets several listeners share it.
func ExampleListenConfig_control() {
	lc := onload.ListenConfig{
		KeepAlive: 30 * time.Second,
		Control: func(_, _ string, c syscall.RawConn) (err error) {
			if failed := c.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			}); failed != nil {
				return failed
			}
			return err
		},
	}
	first, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer first.Close()
	second, err := lc.Listen(context.Background(), "tcp", first.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer second.Close()
	fmt.Println(first.Addr().String() == second.Addr().String())
	// Output: true
}

// A UDP server that answers, and a client, over a link in memory.
func ExampleEngine_ListenUDP() {
	a, b, err := onload.NewMemoryPair(onload.MemoryConfig{}, onload.MemoryConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer a.Close()
	defer b.Close()

	server, err := b.ListenUDP("udp", &onload.UDPAddr{Port: 5000})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	go func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := server.ReadFromUDPAddrPort(buf) // allocates nothing
			if err != nil {
				return
			}
			server.WriteToUDPAddrPort(buf[:n], from)
		}
	}()

	client, err := a.Dial("udp", "10.0.0.2:5000")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	client.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(client, "ping")
	buf := make([]byte, 1500)
	n, err := client.Read(buf)
	fmt.Println(string(buf[:n]), err)
	// Output: ping <nil>
}

// Info is Linux's TCP_INFO, for the kernel's connections too.
func ExampleTCPConn_Info() {
	ln, err := onload.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ln.Close()
	c, err := onload.Dial("tcp", ln.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	info, err := c.(*onload.TCPConn).Info()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(info.State, info.Limit, info.Unsent)
	// Output: ESTABLISHED idle 0
}

// An engine with settings of the program's own. Its methods are those of the
// package. An interface that cannot be opened is left to the kernel here.
func ExampleConfig() {
	e, err := onload.New(onload.Config{
		Interfaces: []string{"no-such-link"},
		Fallback:   true,
		Profile:    onload.Throughput,
		Congestion: "bbr",
		Logger:     zap.NewNop(),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer e.Close()
	for _, i := range e.Status() {
		fmt.Println(i.Name, i.Path)
	}
	ln, err := e.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ln.Close()
	fmt.Println(onload.PathOf(ln).Accelerated)
	// Output:
	// no-such-link kernel (no such interface: no such device)
	// false
}

// A link in memory with faults, for a test of what a program does on a bad
// network.
func ExampleNewMemoryPair_faults() {
	lossy := onload.MemoryConfig{Seed: 1, Faults: onload.Faults{Loss: 0.05, Delay: time.Millisecond}}
	a, b, err := onload.NewMemoryPair(lossy, lossy)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer a.Close()
	defer b.Close()

	ln, err := b.Listen("tcp", "10.0.0.2:80")
	if err != nil {
		fmt.Println(err)
		return
	}
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		c.Write(make([]byte, 100_000))
		c.Close()
	}()
	c, err := a.Dial("tcp", "10.0.0.2:80")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	n, err := io.Copy(io.Discard, c)
	fmt.Println(n, err)
	// Output: 100000 <nil>
}
