package recipes

import (
	"crypto/tls"

	onload "github.com/onload-go/onload/net"
)

// ServeTLS calls serve for each connection to addr, whose handshake its first Read or Write does.
func ServeTLS(addr string, config *tls.Config, serve func(*tls.Conn)) error {
	ln, err := onload.Listen("tcp", addr)
	if err != nil {
		return err
	}
	secure := tls.NewListener(ln, config)
	for {
		conn, err := secure.Accept()
		if err != nil {
			return err
		}
		go serve(conn.(*tls.Conn))
	}
}

// DialTLS connects to addr.
func DialTLS(addr string, config *tls.Config) (*tls.Conn, error) {
	conn, err := onload.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	return tls.Client(conn, config), nil
}
