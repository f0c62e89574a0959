package program

import (
	"context"
	"fmt"
	"net"

	onload "github.com/onload-go/onload/net"
)

// Network takes the place of package net in a program.
type Network struct {
	Listen       func(network, addr string) (net.Listener, error)
	DialContext  func(ctx context.Context, network, addr string) (net.Conn, error)
	ListenPacket func(network, addr string) (net.PacketConn, error)
	Host         string // own address
	accelerated  bool
}

// Kernel is package net.
func Kernel() *Network {
	return &Network{Listen: net.Listen, DialContext: new(net.Dialer).DialContext, ListenPacket: net.ListenPacket}
}

// Onload is the default engine, as a program gets it that swaps the import.
func Onload() *Network {
	return &Network{Listen: onload.Listen, DialContext: new(onload.Dialer).DialContext, ListenPacket: onload.ListenPacket, accelerated: true}
}

// Dial is DialContext without a context.
func (n *Network) Dial(network, addr string) (net.Conn, error) {
	return n.DialContext(context.Background(), network, addr)
}

// path says how the packets of a socket travel. A socket of onload that is the
// kernel's is an error: comparing it would prove nothing.
func (n *Network) path(socket any) (string, error) {
	if !n.accelerated {
		return "kernel", nil
	}
	p := onload.PathOf(socket)
	if !p.Accelerated {
		return "", fmt.Errorf("not accelerated: %v", p)
	}
	return p.String(), nil
}

// Checked is n for a client: a connection that is not accelerated is an error.
func (n *Network) Checked() *Network {
	c := *n
	c.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := n.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		if _, err := n.path(conn); err != nil {
			conn.Close()
			return nil, err
		}
		return conn, nil
	}
	c.ListenPacket = func(network, addr string) (net.PacketConn, error) {
		conn, err := n.ListenPacket(network, addr)
		if err != nil {
			return nil, err
		}
		if _, err := n.path(conn); err != nil {
			conn.Close()
			return nil, err
		}
		return conn, nil
	}
	return &c
}

// listen is a TCP listener on a port of the kernel's choice.
func (n *Network) listen(host string) (net.Listener, *Server, error) {
	l, err := n.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, nil, err
	}
	path, err := n.path(l)
	if err != nil {
		l.Close()
		return nil, nil, err
	}
	return l, &Server{Addr: l.Addr().String(), Path: path}, nil
}

// serve runs a server on a listener until the process ends.
func (n *Network) serve(host string, serve func(net.Listener) error) (*Server, error) {
	l, s, err := n.listen(host)
	if err != nil {
		return nil, err
	}
	go func() {
		if err := serve(l); err != nil {
			panic(err) // the process is of no use any more
		}
	}()
	return s, nil
}

// each makes a Call for each of conns connections.
func each(conns int, make func() (Call, error)) ([]Call, error) {
	var calls []Call
	for range conns {
		c, err := make()
		if err != nil {
			return nil, err
		}
		calls = append(calls, c)
	}
	return calls, nil
}
