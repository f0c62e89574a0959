// Package onloadtls dials TLS over accelerated connections, as the functions of
// crypto/tls do that take a net.Dialer. It is a package of its own, so that programs
// without TLS do not get crypto/tls.
//
// tls.Client, tls.Server and tls.NewListener take any connection: they need nothing
// from here.
package onloadtls

import (
	"context"
	"crypto/tls"
	"net"
	"strings"

	onload "github.com/onload-go/onload/net"
)

// Dialer dials TLS connections, as tls.Dialer does.
type Dialer struct {
	// NetDialer makes the connection; nil is the zero onload.Dialer. Its Timeout and
	// Deadline hold for the handshake too.
	NetDialer *onload.Dialer

	// Config is that of the connections; nil is the zero tls.Config. Where its
	// ServerName is empty, it is taken from the address.
	Config *tls.Config
}

// Dial connects to the address on the named network and makes the handshake. The
// connection is a *tls.Conn.
func (d *Dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// DialContext is Dial with a context, which has no effect on the connection once the
// handshake is complete.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	nd := d.NetDialer
	if nd == nil {
		nd = new(onload.Dialer)
	}
	c, err := dial(ctx, nd, network, address, d.Config)
	if err != nil {
		return nil, err // never an interface with a nil pointer
	}
	return c, nil
}

// Dial is tls.Dial over an accelerated connection.
func Dial(network, address string, config *tls.Config) (*tls.Conn, error) {
	return DialWithDialer(new(onload.Dialer), network, address, config)
}

// DialWithDialer is tls.DialWithDialer over an accelerated connection: the dialer's
// Timeout and Deadline hold for the handshake too.
func DialWithDialer(d *onload.Dialer, network, address string, config *tls.Config) (*tls.Conn, error) {
	return dial(context.Background(), d, network, address, config)
}

func dial(ctx context.Context, d *onload.Dialer, network, address string, config *tls.Config) (*tls.Conn, error) {
	if d.Timeout != 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.Timeout)
		defer cancel()
	}
	if !d.Deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, d.Deadline)
		defer cancel()
	}
	c, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if config == nil {
		config = new(tls.Config)
	}
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName = address
		if i := strings.LastIndex(address, ":"); i >= 0 {
			config.ServerName = address[:i] // with the brackets of IPv6, as crypto/tls has it
		}
	}
	secure := tls.Client(c, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = c.Close()
		return nil, err
	}
	return secure, nil
}
