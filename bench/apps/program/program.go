// Package program holds the programs that are measured: each a server and
// clients of a well-known library, over any network.
package program

import (
	"bytes"
	"slices"
)

// Payload is the size of every body, value or message, in bytes.
const Payload = 64

// Call asks for one answer, waits for it and checks it.
type Call func() error

// Program is a server and its clients.
type Program struct {
	Name string
	Doc  string
	// Serve starts the server at an address of this host. upstream is that
	// of the server behind it, of programs with three processes.
	Serve func(n *Network, host, upstream string) (*Server, error)
	// Dial makes conns connections, one for each Call. They need not exist
	// before their first Call.
	Dial func(n *Network, addr string, conns int) ([]Call, error)
	// Upstream starts the server behind the server; nil: there is none. Such
	// a program is a proxy: its listening and its dialling side are compared.
	Upstream func(n *Network, host string) (*Server, error)
}

// Server is one that serves.
type Server struct {
	Addr string // to dial
	Path string // how its packets travel
}

// All lists the programs in the order of the report.
func All() []*Program {
	return []*Program{netHTTP, netHTTPS, http2, grpcUnary, dnsUDP, reverseProxy, redis, fastHTTP, websockets}
}

// Find returns the program of that name, or nil.
func Find(name string) *Program {
	i := slices.IndexFunc(All(), func(p *Program) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return All()[i]
}

// payload is what goes over the wire: text, without a byte that some protocol
// would escape.
var payload = bytes.Repeat([]byte("0123456789abcdef"), Payload/16)
