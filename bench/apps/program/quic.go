package program

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/quic-go/quic-go"
)

const quicProto = "echo"

var quicEcho = &Program{
	Name: "QUIC",
	Doc:  "quic-go, its sockets wrapped as plain net.PacketConns on every rung; echo of 64 bytes, a stream for each, one at a time on each connection",
	Serve: func(n *Network, host, _ string) (*Server, error) {
		c, err := n.ListenPacket("udp", net.JoinHostPort(host, "0"))
		if err != nil {
			return nil, err
		}
		path, err := n.path(c)
		if err != nil {
			return nil, err
		}
		growBuffer(c)
		cert, err := selfSigned(host)
		if err != nil {
			return nil, err
		}
		t := &quic.Transport{Conn: plain{c}}
		l, err := t.Listen(&tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{quicProto}}, nil)
		if err != nil {
			return nil, err
		}
		go serveQUIC(l)
		return &Server{Addr: c.LocalAddr().String(), Path: path}, nil
	},
	Dial: func(n *Network, addr string, conns int) ([]Call, error) {
		to, err := net.ResolveUDPAddr("udp", addr)
		if err != nil {
			return nil, err
		}
		return each(conns, func() (Call, error) {
			var c *quic.Conn
			return func() (err error) {
				if c == nil {
					if c, err = dialQUIC(n, to); err != nil {
						return err
					}
				}
				return askQUIC(c)
			}, nil
		})
	},
}

// plain hides everything but net.PacketConn, so that quic-go sends and receives
// single datagrams over either network, as in all figures so far.
type plain struct{ net.PacketConn }

func dialQUIC(n *Network, to net.Addr) (*quic.Conn, error) {
	c, err := n.ListenPacket("udp", net.JoinHostPort(n.Host, "0"))
	if err != nil {
		return nil, err
	}
	t := &quic.Transport{Conn: plain{c}}
	tc := clientTLS()
	tc.NextProtos = []string{quicProto}
	return t.Dial(context.Background(), to, tc, nil)
}

func askQUIC(c *quic.Conn) error {
	s, err := c.OpenStreamSync(context.Background())
	if err != nil {
		return err
	}
	if _, err := s.Write(payload); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	b, err := io.ReadAll(s)
	if err == nil && len(b) != Payload {
		err = fmt.Errorf("an answer of %d bytes", len(b))
	}
	return err
}

func serveQUIC(l *quic.Listener) {
	for {
		c, err := l.Accept(context.Background())
		if errors.Is(err, quic.ErrServerClosed) {
			return
		}
		if err != nil {
			panic(err)
		}
		go func() {
			for {
				s, err := c.AcceptStream(context.Background())
				if err != nil {
					return // the client has gone
				}
				go func() {
					_, _ = io.Copy(s, s) // the client sees what is missing
					s.Close()
				}()
			}
		}()
	}
}
