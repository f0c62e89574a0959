// Package program holds the programs that are measured: each a server and
// clients of a well-known library, over any network.
package program

import (
	"bytes"
	"slices"
	"syscall"
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
	// External is the server in place of Serve, where that is a program of
	// its own.
	External *External
}

// External is a server that no library of ours is linked into.
type External struct {
	// Needs returns an error that names something that is missing on this
	// machine and cannot be fetched.
	Needs func() error
	// Prepare fills a folder for the server, once in a session; nil: it needs
	// none.
	Prepare func(dir string) error
	// Command returns the command line and the address where it serves.
	Command func(dir, host string, onload bool) (*Command, error)
	// Stop ends it.
	Stop syscall.Signal
	// KernelOnly: it always uses the kernel's sockets.
	KernelOnly bool
}

// Command is a program with its arguments.
type Command struct {
	Args []string // the first is its path
	User uint32   // to run as; 0: as this process
	Addr string
}

// Server is one that serves.
type Server struct {
	Addr string // to dial
	Path string // how its packets travel
}

// Missing returns an error that names what this machine lacks to run the
// program, or nil.
func (p *Program) Missing() error {
	if p.External == nil {
		return nil
	}
	return p.External.Needs()
}

// All lists the programs in the order of the report.
func All() []*Program {
	return []*Program{netHTTP, netHTTPS, http2, grpcUnary, dnsUDP, reverseProxy, redis, fastHTTP, websockets,
		redisServer, postgres, natsPublish, natsRequest, quicEcho}
}

// Find returns the program of that name, or nil.
func Find(name string) *Program {
	i := slices.IndexFunc(All(), func(p *Program) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return All()[i]
}

// payload is text without a byte that some protocol would escape.
var payload = bytes.Repeat([]byte("0123456789abcdef"), Payload/16)
