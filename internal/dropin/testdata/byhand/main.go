// Command byhand has a place that no rule changes.
package main

import (
	"crypto/tls"
	"net"

	"golang.org/x/net/websocket"
)

func main() {
	var config websocket.Config
	config.Dialer = new(net.Dialer)
	_, _ = tls.DialWithDialer(nil, "tcp", "", nil) // nil is any pointer
}
