package onload

import (
	"net"

	"github.com/onload-go/onload/internal/engine"
)

// Path says how the packets of a socket travel.
type Path struct {
	// Accelerated means by the queues of Interface, not through the kernel's
	// sockets. A listener may have several interfaces, separated by commas.
	Accelerated bool
	Interface   string
	Driver      string // of the interface
	Mode        string // "native", "generic", "sim"
	ZeroCopy    bool
	// CopyReason says why packets are copied between NIC and process. It is empty
	// with ZeroCopy, and on in-memory links.
	CopyReason string
	// NAPI says which settings of the kernel's polling were set, or kept, or why
	// they could not be set. It is empty if Config.NAPI asks for nothing.
	NAPI string
	// TSO is the largest packet that the device segments, in bytes; 0 is none.
	TSO int
	// Broker is the socket of the broker by whose link the packets travel. It is empty
	// where the process has the interface's queues itself.
	Broker string

	// Reason says why the kernel carries the socket; it is empty if Accelerated.
	Reason string
}

// String is the path in words, in one line.
func (p Path) String() string { return engine.Path(p).String() }

// PathOf returns how the packets of v travel. v is a connection or listener of this
// package, or one of net, which the kernel always carries. A wrapper with a method
// NetConn, such as a tls.Conn, is unwrapped.
func PathOf(v any) Path {
	switch c := v.(type) {
	case nil:
		return Path{Reason: "no socket"}
	case *TCPConn:
		return c.via().path()
	case *UDPConn:
		return c.via().path()
	case *TCPListener:
		if c.ok() {
			return c.path()
		}
	case interface{ NetConn() net.Conn }:
		return PathOf(c.NetConn())
	case *net.TCPConn, *net.UDPConn, *net.TCPListener, *net.UnixConn, *net.UnixListener, *net.IPConn:
		return Path{Reason: "it is a socket of package net"}
	}
	return Path{Reason: notOurs}
}

const notOurs = "it is no socket of this package"
