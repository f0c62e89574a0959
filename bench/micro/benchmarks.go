package micro

import (
	"io"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/onload-go/onload/bench/load"
)

func pair(b testing.TB, s Stack, mtu int) (x, y Network) {
	x, y, err := s.Pair(mtu)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { x.Close(); y.Close() })
	return x, y
}

// connected returns both ends of a connection.
func connected(b testing.TB, s Stack, mtu int) (client, srv net.Conn) {
	x, y := pair(b, s, mtu)
	return join(b, x, y)
}

func join(b testing.TB, x, y load.Network) (client, srv net.Conn) {
	l, err := y.Listen("tcp", server)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	accepted := make(chan net.Conn, 1)
	go func() {
		defer close(accepted)
		if c, err := l.Accept(); err == nil {
			accepted <- c
		}
	}()
	if client, err = x.Dial("tcp", server); err != nil {
		b.Fatal(err)
	}
	srv, ok := <-accepted
	if !ok {
		b.Fatal("nothing to accept")
	}
	b.Cleanup(func() { client.Close(); srv.Close() })
	// A benchmark that hangs fails.
	for _, c := range []net.Conn{client, srv} {
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			b.Fatal(err)
		}
	}
	return client, srv
}

// hop sends p from one end and takes it at the other.
func hop(b testing.TB, from, to net.Conn, p []byte) {
	if _, err := from.Write(p); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(to, p); err != nil {
		b.Fatal(err)
	}
}

// alone: one goroutine drives both ends.
func alone(b *testing.B, s Stack, size int) {
	c, d := connected(b, s, 1500)
	p := make([]byte, size)
	b.ReportAllocs()
	for b.Loop() {
		hop(b, c, d, p)
		hop(b, d, c, p)
	}
}

// tcpRTT: a goroutine for each end, with calls that block.
func tcpRTT(b *testing.B, s Stack, size int) {
	c, d := connected(b, s, 1500)
	go func() {
		p := make([]byte, size)
		for {
			if _, err := io.ReadFull(d, p); err != nil {
				return
			}
			if _, err := d.Write(p); err != nil {
				return
			}
		}
	}()
	p := make([]byte, size)
	b.ReportAllocs()
	for b.Loop() {
		hop(b, c, c, p)
	}
}

// datagrams opens a socket on each end.
func datagrams(b *testing.B, s Stack) (c, d load.Datagrams) {
	x, y := pair(b, s, 1500)
	open := func(n load.Network, addr string) load.Datagrams {
		c, err := n.ListenPacket("udp", addr)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { c.Close() })
		if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			b.Fatal(err)
		}
		return c.(load.Datagrams)
	}
	return open(x, udpClient.String()), open(y, server)
}

var udpClient, udpServer = netip.MustParseAddrPort("10.0.0.1:81"), netip.MustParseAddrPort(server)

// udpHop sends p from one end and takes it at the other.
func udpHop(b *testing.B, from, to load.Datagrams, addr netip.AddrPort, p []byte) {
	if _, err := from.WriteToUDPAddrPort(p, addr); err != nil {
		b.Fatal(err)
	}
	if _, _, err := to.ReadFromUDPAddrPort(p); err != nil {
		b.Fatal(err)
	}
}

// udpAlone: one goroutine drives both ends.
func udpAlone(b *testing.B, s Stack, size int) {
	c, d := datagrams(b, s)
	p := make([]byte, size)
	b.ReportAllocs()
	for b.Loop() {
		udpHop(b, c, d, udpServer, p)
		udpHop(b, d, c, udpClient, p)
	}
}

func udpRTT(b *testing.B, s Stack, size int) {
	c, d := datagrams(b, s)
	go func() {
		p := make([]byte, 2048)
		for {
			n, from, err := d.ReadFromUDPAddrPort(p)
			if err != nil {
				return
			}
			if _, err := d.WriteToUDPAddrPort(p[:n], from); err != nil {
				return
			}
		}
	}()
	p := make([]byte, size)
	b.ReportAllocs()
	for b.Loop() {
		udpHop(b, c, c, udpServer, p)
	}
}

// bulk writes 64 KiB an operation; the time ends when the reader has all.
// Both ends share cpus processors.
func bulk(b *testing.B, s Stack, mtu, cpus int) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(min(cpus, runtime.GOMAXPROCS(0))))
	const chunk = 64 << 10
	c, d := connected(b, s, mtu)
	done := make(chan int64, 1)
	go func() {
		var n int64
		p := make([]byte, chunk)
		for {
			k, err := d.Read(p)
			n += int64(k)
			if err != nil {
				done <- n
				return
			}
		}
	}()
	p := make([]byte, chunk)
	b.SetBytes(chunk)
	b.ReportAllocs()
	var sent int64
	b.ResetTimer()
	for range b.N {
		n, err := c.Write(p)
		if err != nil {
			b.Fatal(err)
		}
		sent += int64(n)
	}
	if err := c.Close(); err != nil {
		b.Fatal(err)
	}
	if got := <-done; got != sent {
		b.Fatalf("%d bytes arrived of %d", got, sent)
	}
}

// connectClose opens and closes a connection, without data.
func connectClose(b *testing.B, s Stack) {
	x, y := pair(b, s, 1500)
	l, err := y.Listen("tcp", server)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(io.Discard, c)
				c.Close()
			}()
		}
	}()
	b.ReportAllocs()
	for b.Loop() {
		c, err := x.Dial("tcp", server)
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
