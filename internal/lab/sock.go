package lab

import (
	"context"
	"net"
)

// The sockets below are the kernel's, made inside the namespace, and good for
// any goroutine afterwards. Addresses are literal: names would be resolved by
// goroutines outside.

// Listen is net.Listen inside the namespace.
func (ns *NS) Listen(network, address string) (l net.Listener, err error) {
	err = ns.Do(func() error {
		l, err = net.Listen(network, address)
		return err
	})
	return l, err
}

// ListenPacket is net.ListenPacket inside the namespace.
func (ns *NS) ListenPacket(network, address string) (c net.PacketConn, err error) {
	err = ns.Do(func() error {
		c, err = net.ListenPacket(network, address)
		return err
	})
	return c, err
}

// Dial is net.Dial inside the namespace.
func (ns *NS) Dial(network, address string) (net.Conn, error) {
	return ns.DialContext(context.Background(), network, address)
}

// DialContext dials inside the namespace; it fits http.Transport.
func (ns *NS) DialContext(ctx context.Context, network, address string) (c net.Conn, err error) {
	err = ns.Do(func() error {
		c, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return c, err
}
