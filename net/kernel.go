package onload

import (
	"context"
	"errors"
	"net"
	"os"
)

// dialKernel has net connect, in the engine's namespace, and wraps TCP and UDP
// sockets in this package's types. If there is a namespace, addresses are literal:
// net would resolve names, and race addresses, on goroutines outside of it.
func (e *Engine) dialKernel(ctx context.Context, d *net.Dialer, network, address string) (Conn, error) {
	c, err := e.dialStd(ctx, d, network, address)
	if err != nil {
		return nil, err
	}
	if !isTCP(network) && !isUDP(network) {
		return c, nil
	}
	return wrapConn(c, network, e.in.Notice()), nil
}

func (e *Engine) dialStd(ctx context.Context, d *net.Dialer, network, address string) (c net.Conn, err error) {
	err = e.inNS("dial", network, func() error {
		c, err = d.DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// inNS runs fn, a call of net's, in the engine's namespace. If the namespace cannot
// be entered, because the engine is closed or a capability is gone, the error is of
// net's kind too.
func (e *Engine) inNS(op, network string, fn func() error) error {
	entered := false
	err := e.in.InNS(func() error {
		entered = true
		return fn()
	})
	if entered {
		return err
	}
	if errors.Is(err, os.ErrClosed) {
		err = net.ErrClosed
	}
	return &net.OpError{Op: op, Net: network, Err: err}
}

// dialInNS is the dial function by which names are resolved from a namespace.
func (e *Engine) dialInNS(ctx context.Context, network, address string) (net.Conn, error) {
	return e.dialStd(ctx, new(net.Dialer), network, address)
}

// wrapConn gives a connection of net the type that it has in this package.
func wrapConn(c net.Conn, network, why string) Conn {
	switch c := c.(type) {
	case *net.TCPConn:
		return kernelTCPConn(c, network, why)
	case *net.UDPConn:
		return kernelUDPConn(c, why)
	}
	return c
}

const fromFile = "it was made from a file"

// FileConn returns a copy of the network connection corresponding to the open file
// f. The kernel carries it.
func FileConn(f *os.File) (Conn, error) {
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	return wrapConn(c, c.LocalAddr().Network(), fromFile), nil
}
