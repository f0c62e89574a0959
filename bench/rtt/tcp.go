package main

import (
	"io"
	"net"
	"net/netip"

	onload "github.com/onload-go/onload/net"
)

const tcpPort = 7778

func newEngine(e *end) (*onload.Engine, error) {
	return onload.New(onload.Config{Interfaces: []string{e.If}, Profile: onload.Latency, Mode: modes[e.Mode]})
}

func (e *end) addr(host string) string {
	return netip.AddrPortFrom(netip.MustParseAddr(host), tcpPort).String()
}

func onloadServer(e *end) (*result, error) {
	eng, err := newEngine(e)
	if err != nil {
		return nil, err
	}
	l, err := eng.Listen("tcp", e.addr(e.Local))
	if err != nil {
		return nil, err
	}
	return nil, echoOne(l)
}

func kernelServer(e *end) (*result, error) {
	l, err := net.Listen("tcp", e.addr(e.Local))
	if err != nil {
		return nil, err
	}
	return nil, echoOne(l)
}

// echoOne serves one connection.
func echoOne(l net.Listener) error {
	ready()
	c, err := l.Accept()
	if err != nil {
		return err
	}
	b := make([]byte, 64)
	for {
		n, err := c.Read(b)
		if err == io.EOF {
			select {} // the parent stops us
		}
		if err != nil {
			return err
		}
		if _, err := c.Write(b[:n]); err != nil {
			return err
		}
	}
}

func onloadClient(e *end) (*result, error) {
	eng, err := newEngine(e)
	if err != nil {
		return nil, err
	}
	defer eng.Close()
	c, err := eng.Dial("tcp", e.addr(e.Remote))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	r, err := pingPong(c, e.N)
	if r != nil {
		r.Path = onload.PathOf(c).String()
	}
	return r, err
}

func kernelClient(e *end) (*result, error) {
	c, err := net.Dial("tcp", e.addr(e.Remote))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	r, err := pingPong(c, e.N)
	if r != nil {
		r.Path = "kernel"
	}
	return r, err
}

func pingPong(c net.Conn, n int) (*result, error) {
	b := []byte{0}
	return measure(n, func(int) error {
		if _, err := c.Write(b); err != nil {
			return err
		}
		_, err := io.ReadFull(c, b)
		return err
	})
}
