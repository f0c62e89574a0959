// Package onload carries TCP and UDP in the application's own process, straight
// from the queues of the network interface. It has the API of the standard
// library's package net: import it under the name net, or write onload.Dial
// instead of net.Dial.
//
//	import onload "github.com/onload-go/onload/net"
//
//	ln, err := onload.Listen("tcp", ":8080")
//
// # What is accelerated
//
// Traffic of the interfaces that ONLOAD_INTERFACES names ("eth0,eth1", or "auto"
// for those whose driver runs XDP natively), or Config.Interfaces for an Engine
// of one's own. The default is none. The process needs CAP_NET_ADMIN, CAP_NET_RAW
// and CAP_BPF, or root. With CAP_IPC_LOCK packet memory may exceed RLIMIT_MEMLOCK;
// with CAP_PERFMON the XDP program runs without fences against Spectre.
//
// The kernel carries everything else, with the same types and the same errors:
// loopback and other local destinations, routes that leave by another
// interface, addresses with a zone, Multipath TCP where the Dialer asks for
// it, broadcasts, Unix sockets, raw IP. It carries multicast where it has others to
// give it to: groups at a port that another program has too, and datagrams to a group
// unless IP_MULTICAST_LOOP is off. A listener on a wildcard address accepts from both ways, in one Accept; a listener on an address of an accelerated
// interface also accepts local clients. PathOf says who carries a connection,
// and why.
//
// # What is different
//
//   - TCPConn, UDPConn and TCPListener are types of this package; those of net
//     that carry no TCP or UDP (addresses, errors, resolver, Unix sockets) are
//     aliases.
//   - A UDP socket whose program asks for its descriptor (File), or reads or
//     writes it itself (RawConn.Read and Write, as the PacketConns of x/net do),
//     becomes the kernel's. ReadBatch and WriteBatch take x/net's messages and
//     keep it accelerated; quic-go finds ReadBatch by itself.
//   - An accelerated TCP connection has no descriptor until File is called, which hands
//     it over to the kernel (see TCPConn.File). SyscallConn's RawConn shows what it has
//     on other sockets, as connection pools need it (see TCPConn.SyscallConn).
//   - Control hooks of Dialer and ListenConfig get the descriptor of a socket
//     that is never connected; see below.
//   - An accelerated UDP socket takes control messages (the oob of WriteMsgUDP)
//     for source address, TTL, TOS and UDP_SEGMENT. The kernel sends a datagram
//     with others from a bound socket; a connected socket becomes the kernel's.
//
// # Options of Control hooks
//
// The options that a hook sets on its socket hold for accelerated connections too:
//
//   - buffer sizes, SO_LINGER, keepalive, SO_MAX_PACING_RATE, TCP_CONGESTION,
//     TCP_USER_TIMEOUT, TCP_LINGER2, TCP_SYNCNT, TCP_DEFER_ACCEPT, TCP_MAXSEG,
//     TCP_WINDOW_CLAMP (from 4096 bytes), TCP_FASTOPEN, TCP_FASTOPEN_KEY,
//     TCP_FASTOPEN_CONNECT, TCP_FASTOPEN_NO_COOKIE;
//   - IP_TOS and IPV6_TCLASS in all packets, those of a listener's handshakes
//     included (the ECN bits are TCP's), IP_TTL and IPV6_UNICAST_HOPS;
//   - of UDP: IP_PKTINFO, IP_RECVTTL, IP_RECVTOS, IP_RECVORIGDSTADDR and their
//     likes of IPv6, SO_TIMESTAMP, SO_TIMESTAMPNS and SO_TIMESTAMPING of received
//     datagrams by software (when the stack received them), SO_RXQ_OVFL, UDP_SEGMENT, UDP_GRO, and IP_MTU_DISCOVER and
//     IPV6_MTU_DISCOVER with WANT, DO and PROBE;
//   - IPV6_V6ONLY, SO_REUSEADDR, SO_REUSEPORT. Sockets of one Engine with
//     SO_REUSEPORT share incoming traffic among them. If sockets outside of the
//     Engine have the port already, the kernel carries the new one. Sockets that
//     join later, outside of the Engine, get no accelerated traffic.
//
// If a hook sets any other option that would make a difference, or binds the socket,
// the kernel carries the connection; PathOf names the option.
// Such options are SO_MARK, SO_BINDTODEVICE, SO_PRIORITY (except that of IP_TOS),
// SO_TIMESTAMPING of the NIC or of what is sent, SO_TXTIME, SO_ATTACH_FILTER, TCP_CORK,
// TCP_NOTSENT_LOWAT, TCP_SAVE_SYN, TCP_REPAIR, IP_TRANSPARENT, IP_FREEBIND,
// IP_OPTIONS, IP_MINTTL, and IP_RECVERR. An Engine without a kernel
// (NewMemoryPair) fails with errors.ErrUnsupported. All this also holds for
// options that are set on an open UDP socket by SyscallConn. On an open TCP
// connection followed are buffer sizes, SO_LINGER, keepalive, SO_MAX_PACING_RATE,
// TCP_NODELAY, TCP_CONGESTION, TCP_USER_TIMEOUT, TOS and TTL; others are errors, and
// those of a handshake mean nothing any more.
//
// The kernel does not reveal TCP_MD5SIG, TCP_AO, SO_ATTACH_REUSEPORT_CBPF and
// SO_ATTACH_REUSEPORT_EBPF, nor of a TCP_MAXSEG of 536, so they are not seen:
// programs that need them use package net.
//
// # Settings
//
// Every field of Config has an environment variable ONLOAD_*, for the engine
// behind the package-level functions; Settings lists them. An unknown
// variable or a value that cannot be understood is an error that names it,
// returned from the first call.
package onload
