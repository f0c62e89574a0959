package main

import (
	"context"
	"crypto/tls"
	n "net"
)

// dialer keeps its import of crypto/tls.
func dialer(config *tls.Config) func(context.Context, string, string) (n.Conn, error) {
	d := tls.Dialer{
		NetDialer: &n.Dialer{Timeout: 1}, // a comment that stays
		Config:    config,
	}
	return d.DialContext
}

func plain(c *n.TCPConn) error { return c.CloseWrite() }
