// Command program is what TestSwap changes.
package main

import (
	"crypto/tls"
	"net"
	"os"
)

func main() {
	d := &net.Dialer{}
	c, err := tls.DialWithDialer(d, "tcp", os.Args[1], nil)
	if err != nil {
		os.Exit(1)
	}
	serve(c) // an interface: anything goes
}

func serve(c net.Conn) { _ = c.Close() }
