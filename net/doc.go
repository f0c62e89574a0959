// Package onload carries TCP and UDP in the application's own process,
// straight from the queues of the network interface, behind the API of the
// standard library's package net: import it under the name net, or write
// onload.Dial where net.Dial stood.
//
//	import onload "github.com/onload-go/onload/net"
//
//	ln, err := onload.Listen("tcp", ":8080")
//
// # What is accelerated
//
// The interfaces that ONLOAD_INTERFACES names ("eth0,eth1", or "auto" for
// those whose driver runs XDP natively), or Config.Interfaces for an Engine
// of one's own. The default is none. It takes CAP_NET_ADMIN, CAP_NET_RAW and
// CAP_BPF, or root.
//
// All else takes the kernel's way, with the same types and the same errors:
// loopback and other local destinations, routes that leave by another
// interface, addresses with a zone, Multipath TCP where the Dialer asks for
// it, multicast, Unix sockets, raw IP. A listener on a wildcard address
// accepts from both, in one Accept; one on an address of an accelerated
// interface also accepts local clients. PathOf tells which way a connection
// goes, and why.
//
// # What is different
//
//   - TCPConn, UDPConn and TCPListener are types of this package; those of net
//     that carry no TCP or UDP (addresses, errors, resolver, Unix sockets) are
//     aliases.
//   - An accelerated connection has no descriptor. File fails, and so do the
//     methods of the RawConn that SyscallConn returns, with an error that is
//     errors.ErrUnsupported; but RawConn.Read works as far as it tells that an
//     idle connection is alive, which connection pools ask.
//   - Control hooks of Dialer and ListenConfig get the descriptor of a socket
//     that is never connected. Buffer sizes, keepalive, SO_LINGER,
//     TCP_USER_TIMEOUT, TCP_DEFER_ACCEPT, TCP_SYNCNT, TCP_FASTOPEN,
//     TCP_FASTOPEN_KEY, TCP_FASTOPEN_CONNECT, TCP_FASTOPEN_NO_COOKIE and
//     TCP_CONGESTION are copied from it. A hook that binds the socket, or
//     chooses a device or a mark, has the kernel carry the connection.
//   - Control messages (the oob of WriteMsgUDP) are refused on accelerated
//     sockets.
//
// # Settings
//
// Every field of Config has an environment variable ONLOAD_*, for the engine
// behind the package-level functions; Settings lists them. An unknown
// variable or a value that cannot be understood is an error that names it,
// returned from the first call.
package onload
